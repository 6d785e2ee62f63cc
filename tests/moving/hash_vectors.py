"""Prints password hashes made by the libraries of other systems, one JSON object a line.

    pip install werkzeug==3.1.9 Django==5.2.19 passlib==1.7.4 bcrypt==4.3.0 argon2-cffi==25.1.0
    python tests/moving/hash_vectors.py > tests/moving/hash_vectors.jsonl

bcrypt is of the last version that accepts passwords longer than 72 bytes, as PHP does.
"""

import json
import unicodedata

import argon2
import bcrypt
import django
from django.conf import settings
from passlib import hash as passlib
from werkzeug.security import generate_password_hash

settings.configure()
django.setup()

from django.contrib.auth import hashers  # noqa: E402

PASSWORDS = [
    "correct horse battery staple",
    "abc123",
    unicodedata.normalize("NFC", "Café à l’été"),
    unicodedata.normalize("NFD", "Café à l’été"),
    "non\u00a0breaking\u2003space",
    "🫠 пароль 密码",
    "a" * 71 + "é" + "b" * 20,
    "0123456789" * 30,
]


def django_hash(kind, **cheaper):
    def make(password, is_cheap):
        hasher = kind()
        if is_cheap:
            vars(hasher).update(cheaper)
        return hasher.encode(password, hasher.salt())

    return make


def bcrypt_hash(prefix, rounds):
    def make(password, is_cheap):
        salt = bcrypt.gensalt(4 if is_cheap else rounds).decode()
        return bcrypt.hashpw(password.encode(), salt.replace("$2b$", prefix).encode()).decode()

    return make


def argon2_hash(variant, **costs):
    def make(password, is_cheap):
        cheap = {"memory_cost": 1024, "time_cost": 2, "parallelism": 2}
        return argon2.PasswordHasher(type=variant, **(cheap if is_cheap else costs)).hash(password)

    return make


def passlib_hash(handler, cheap_rounds, **options):
    def make(password, is_cheap):
        if is_cheap:
            return handler.using(rounds=cheap_rounds, **options).hash(password)
        return handler.using(**options).hash(password)

    return make


def werkzeug_hash(method, cheap_method):
    return lambda password, is_cheap: generate_password_hash(
        password, cheap_method if is_cheap else method
    )


ID, I, D = argon2.Type.ID, argon2.Type.I, argon2.Type.D

SYSTEMS = {
    "werkzeug scrypt": werkzeug_hash("scrypt", "scrypt:1024:8:2"),
    "werkzeug pbkdf2-sha256": werkzeug_hash("pbkdf2", "pbkdf2:sha256:1000"),
    "werkzeug pbkdf2-sha1": werkzeug_hash("pbkdf2:sha1:150000", "pbkdf2:sha1:1000"),
    "werkzeug pbkdf2-sha512": werkzeug_hash("pbkdf2:sha512:210000", "pbkdf2:sha512:1000"),
    "django pbkdf2-sha256": django_hash(hashers.PBKDF2PasswordHasher, iterations=1000),
    "django pbkdf2-sha1": django_hash(hashers.PBKDF2SHA1PasswordHasher, iterations=1000),
    "django scrypt": django_hash(hashers.ScryptPasswordHasher, work_factor=1024),
    "django argon2": django_hash(hashers.Argon2PasswordHasher, memory_cost=1024),
    "django bcrypt-sha256": django_hash(hashers.BCryptSHA256PasswordHasher, rounds=4),
    "django bcrypt": django_hash(hashers.BCryptPasswordHasher, rounds=4),
    "passlib pbkdf2-sha1": passlib_hash(passlib.pbkdf2_sha1, 1000),
    "passlib pbkdf2-sha256": passlib_hash(passlib.pbkdf2_sha256, 1000),
    "passlib pbkdf2-sha512": passlib_hash(passlib.pbkdf2_sha512, 1000),
    "passlib scrypt": passlib_hash(passlib.scrypt, 10),
    "passlib argon2": passlib_hash(passlib.argon2, 2, memory_cost=1024),
    "passlib bcrypt": passlib_hash(passlib.bcrypt, 4),
    "passlib bcrypt 2a": passlib_hash(passlib.bcrypt, 4, ident="2a"),
    "passlib bcrypt-sha256": passlib_hash(passlib.bcrypt_sha256, 4),
    "passlib bcrypt-sha256 v1": passlib_hash(passlib.bcrypt_sha256, 4, version=1),
    "argon2-cffi": argon2_hash(ID),
    "argon2-cffi argon2i": argon2_hash(I, memory_cost=4096, time_cost=3),
    "argon2-cffi argon2d": argon2_hash(D, memory_cost=4096, time_cost=3),
    "bcrypt": bcrypt_hash("$2b$", 12),
    "php bcrypt": bcrypt_hash("$2y$", 10),
    "php argon2id": argon2_hash(ID, memory_cost=65536, time_cost=4, parallelism=1),
}

# Those whose default costs another system has as well, so that the test is quick.
ONLY_CHEAP = {
    "django pbkdf2-sha1",
    "django bcrypt",
    "passlib bcrypt",
    "passlib bcrypt 2a",
    "passlib bcrypt-sha256",
    "passlib bcrypt-sha256 v1",
}

for system, make in SYSTEMS.items():
    for number, password in enumerate(PASSWORDS):
        is_cheap = number > 0 or system in ONLY_CHEAP
        vector = {"system": system, "password": password, "hash": make(password, is_cheap)}
        print(json.dumps(vector))

print(json.dumps({"system": "django unusable", "password": None, "hash": hashers.make_password(None)}))
