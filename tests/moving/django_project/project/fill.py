"""Users of the project that moves, each with a note."""

from django.contrib.auth.hashers import PBKDF2PasswordHasher, make_password
from django.contrib.auth.models import Group, User
from notes.models import Note

PASSWORD = "correct horse"
# One user for each hasher, named like it. The first is the default.
HASHERS = ["pbkdf2_sha256", "pbkdf2_sha1", "argon2", "bcrypt_sha256", "bcrypt", "scrypt", "md5"]


def fill():
    User.objects.create_superuser(
        "alice", "alice@example.com", PASSWORD, first_name="Alice", last_name="Liddell")
    # Hashes of an earlier Django, which had fewer iterations.
    password = PBKDF2PasswordHasher().encode(PASSWORD, "salt0fLetters", iterations=260_000)
    clerk = User.objects.create(username="Bob the clerk@example.com", password=password)
    clerk.groups.add(Group.objects.create(name="Order Clerks"))
    for name in ["dora", "pat"]:
        User.objects.create(username=name, password=password)
    User.objects.create(username="ian", password=password, is_active=False)
    User.objects.create_user("una", password=None)
    for hasher in HASHERS:
        User.objects.create(username=hasher, password=make_password(PASSWORD, hasher=hasher))
    for user in User.objects.all():
        Note.objects.create(owner=user, text=f"note of {user.username}")
