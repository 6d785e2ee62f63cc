//! JSON schemas of domain types. Descriptions of inlined types are set here: with a doc comment on
//! the field, utoipa generates an `allOf` with `object`, which no value can satisfy.

use serde_json::json;
use strum::VariantNames;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, ObjectBuilder, Schema, SchemaFormat, Type,
};
use utoipa::{PartialSchema, ToSchema};

use crate::domain::{
    AuditAction, ClientId, ClientName, ExternalId, KeyId, KeyState, Metadata, NewPassword,
    Password, PasswordPolicy, Permission, Permissions, RoleName, Roles, SecretId, SessionId,
    TokenId, UserId, Username,
};

macro_rules! schemas {
    ($($type:ty => $schema:expr;)*) => {$(
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                $schema.into()
            }
        }

        impl ToSchema for $type {}
    )*};
}

schemas! {
    Username => text(1, 150)
        .examples(["testuser"])
        .description(Some("Letters, digits and ASCII punctuation, without spaces (RFC 8265)."));
    ExternalId => text(1, ExternalId::MAX_CHARS)
        .pattern(Some(r"^[^\u0000-\u001f\u007f-\u009f]*$"))
        .examples(["42"])
        .description(Some("Id of the account in another system."));
    Metadata => ObjectBuilder::new()
        .schema_type(Type::Object)
        .additional_properties(Some(AdditionalProperties::FreeForm(true)))
        .examples([json!({ "plan": "pro" })])
        .description(Some("Facts about the account, at most 4 KiB of JSON."));
    Password => password(1);
    NewPassword => password(PasswordPolicy::LEAST_MIN_LENGTH)
        .description(Some("The service may be set to require more characters."));
    ClientId => uuid().description(Some("Id of a client."));
    ClientName => text(1, 64).pattern(Some("^[A-Za-z0-9._-]{1,64}$")).examples(["orders"]);
    SecretId => uuid().description(Some("Id of a secret of a client."));
    UserId => uuid().description(Some("Id of an account."));
    SessionId => uuid().description(Some("Id of a session."));
    TokenId => uuid().description(Some("Id of an access token."));
    KeyId => string()
        .pattern(Some("^[A-Za-z0-9_-]{43}$"))
        .examples(["oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"])
        .description(Some("Id of a signing key (RFC 7638)."));
    KeyState => one_of::<KeyState>();
    RoleName => text(1, 64).pattern(Some("^[a-z0-9._-]{1,64}$")).examples(["user"]);
    Roles => set_of(RoleName::schema());
    Permission => text(1, 64)
        .pattern(Some(r"^[!#-\[\]-~]{1,64}$"))
        .examples(["orders:read"])
        .description(Some("Scope token (RFC 6749 section 3.3)."));
    Permissions => set_of(Permission::schema());
    AuditAction => one_of::<AuditAction>();
}

fn text(min_length: usize, max_length: usize) -> ObjectBuilder {
    string().min_length(Some(min_length)).max_length(Some(max_length))
}

fn password(min_length: usize) -> ObjectBuilder {
    text(min_length, 256)
        .pattern(Some(r"^[^\u0000]*$"))
        .examples(["testpass"])
        .format(Some(format("password")))
}

fn uuid() -> ObjectBuilder {
    string().format(Some(format("uuid")))
}

fn set_of(item: RefOr<Schema>) -> ArrayBuilder {
    ArrayBuilder::new().items(item)
}

fn one_of<T: VariantNames>() -> ObjectBuilder {
    string().enum_values(Some(T::VARIANTS.iter().copied()))
}

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn format(name: &str) -> SchemaFormat {
    SchemaFormat::Custom(name.to_owned())
}
