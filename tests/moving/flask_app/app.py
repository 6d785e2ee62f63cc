"""The API that moves: registration, login, a protected page, and logout by a blocklist."""

import os
from datetime import datetime, timezone

from flask import Flask, jsonify, request
from flask_jwt_extended import (
    JWTManager,
    create_access_token,
    get_jwt,
    get_jwt_identity,
    jwt_required,
)
from flask_sqlalchemy import SQLAlchemy
from werkzeug.security import check_password_hash, generate_password_hash

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["OLD_SQLALCHEMY_URL"]
app.config["JWT_SECRET_KEY"] = os.environ["OLD_SECRET"]
db = SQLAlchemy(app)
jwt = JWTManager(app)


class User(db.Model):
    __tablename__ = "users"

    id = db.Column(db.Integer, primary_key=True)
    username = db.Column(db.String(80), unique=True, nullable=False)
    password_hash = db.Column(db.String(256), nullable=False)


class TokenBlocklist(db.Model):
    __tablename__ = "token_blocklist"

    id = db.Column(db.Integer, primary_key=True)
    jti = db.Column(db.String(36), nullable=False, index=True)
    created_at = db.Column(db.DateTime(timezone=True), nullable=False)


with app.app_context():
    db.create_all()


@jwt.token_in_blocklist_loader
def is_revoked(_header, claims):
    found = db.select(TokenBlocklist.id).filter_by(jti=claims["jti"])
    return db.session.scalar(found) is not None


@app.get("/")
def index():
    return jsonify(msg="API is working")


@app.post("/auth/register")
def register():
    data = request.get_json()
    username, password = data.get("username"), data.get("password")
    if not username or not password:
        return jsonify(msg="Missing username or password"), 400
    if db.session.scalar(db.select(User).filter_by(username=username)):
        return jsonify(msg="User already exists"), 409
    db.session.add(User(username=username, password_hash=generate_password_hash(password)))
    db.session.commit()
    return jsonify(msg="User registered successfully"), 201


@app.post("/auth/login")
def login():
    data = request.get_json()
    username, password = data.get("username"), data.get("password")
    if not username or not password:
        return jsonify(msg="Missing username or password"), 400
    user = db.session.scalar(db.select(User).filter_by(username=username))
    if user is None or not check_password_hash(user.password_hash, password):
        return jsonify(msg="Invalid username or password"), 401
    return jsonify(access_token=create_access_token(identity=str(user.id)))


@app.post("/auth/logout")
@jwt_required()
def logout():
    db.session.add(TokenBlocklist(jti=get_jwt()["jti"], created_at=datetime.now(timezone.utc)))
    db.session.commit()
    return jsonify(msg="Successfully logged out")


@app.get("/protected/dashboard")
@jwt_required()
def dashboard():
    user = db.session.get(User, int(get_jwt_identity()))
    return jsonify(message=f"Welcome {user.username}, this is your dashboard")
