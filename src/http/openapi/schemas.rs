//! How the words of the domain look in JSON.

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::domain::{
    AuditAction, Label, Password, Permission, Permissions, Role, Roles, SessionId, TokenId, UserId,
    Username,
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
    Password => text(8, 256).examples(["testpass"]).format(Some(format("password")));
    UserId => uuid();
    SessionId => uuid();
    TokenId => uuid();
    Roles => set_of::<Role>();
    Permissions => set_of::<Permission>();
    AuditAction => one_of::<AuditAction>();
}

fn text(min: usize, max: usize) -> ObjectBuilder {
    string().min_length(Some(min)).max_length(Some(max))
}

fn uuid() -> ObjectBuilder {
    string().format(Some(format("uuid")))
}

fn set_of<L: Label>() -> ArrayBuilder {
    ArrayBuilder::new().items(one_of::<L>()).unique_items(true)
}

fn one_of<L: Label>() -> ObjectBuilder {
    string().enum_values(Some(L::ALL.iter().map(|label| label.as_str())))
}

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn format(name: &str) -> SchemaFormat {
    SchemaFormat::Custom(name.to_owned())
}
