"""A second service of the same owner. It verifies the tokens of `app.py` with the same secret."""

import os

from flask import Flask, jsonify, request
from flask_jwt_extended import JWTManager, get_jwt_identity, jwt_required
from flask_sqlalchemy import SQLAlchemy

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["OLD_SQLALCHEMY_URL"]
app.config["JWT_SECRET_KEY"] = os.environ["OLD_SECRET"]
db = SQLAlchemy(app)
jwt = JWTManager(app)


class Order(db.Model):
    __tablename__ = "orders"

    id = db.Column(db.Integer, primary_key=True)
    user_id = db.Column(db.Integer, nullable=False)
    item = db.Column(db.Text, nullable=False)


with app.app_context():
    db.create_all()


@jwt.token_in_blocklist_loader
def is_revoked(_header, claims):
    found = db.text("select 1 from token_blocklist where jti = :jti")
    return db.session.scalar(found, {"jti": claims["jti"]}) is not None


def owner():
    """Returns the filter for the orders of the bearer."""
    return {"user_id": int(get_jwt_identity())}


@app.get("/orders")
@jwt_required()
def list_orders():
    orders = db.session.scalars(db.select(Order).filter_by(**owner()).order_by(Order.id))
    return jsonify(orders=[order.item for order in orders])


@app.post("/orders")
@jwt_required()
def create_order():
    db.session.add(Order(item=request.get_json()["item"], **owner()))
    db.session.commit()
    return jsonify(msg="Order created"), 201
