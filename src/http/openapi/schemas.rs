//! How the words of the domain look in JSON.

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{
    Array, ArrayBuilder, Object, ObjectBuilder, Schema, SchemaFormat, Type,
};
use utoipa::{PartialSchema, ToSchema};

use crate::domain::{
    AuditAction, Label, Permission, Permissions, Role, Roles, SessionId, TokenId, UserId,
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
    UserId => uuid();
    SessionId => uuid();
    TokenId => uuid();
    Roles => set_of::<Role>();
    Permissions => set_of::<Permission>();
    AuditAction => one_of::<AuditAction>();
}

fn uuid() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::Custom("uuid".to_owned())))
        .build()
}

fn set_of<L: Label>() -> Array {
    ArrayBuilder::new().items(one_of::<L>()).unique_items(true).build()
}

fn one_of<L: Label>() -> Object {
    let names = L::ALL.iter().map(|label| label.as_str());
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names)).build()
}
