//! Roles and permissions, and sets of them that cost one byte.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// What an account is. An account holds roles; a token carries the permissions they grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Anybody who registered.
    User,
    /// Runs the service: manages accounts and introspects tokens.
    Admin,
    /// A service that asks about the tokens it is shown, and does nothing else.
    Introspector,
}

/// What the bearer of a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// See the dashboard.
    DashboardRead,
    /// See other accounts.
    UsersRead,
    /// Change other accounts.
    UsersWrite,
    /// Ask about, and revoke, tokens of others (RFC 7662, RFC 7009).
    TokensIntrospect,
}

/// A set of roles.
pub type Roles = LabelSet<Role>;

/// A set of permissions.
pub type Permissions = LabelSet<Permission>;

/// Returns everything that at least one of the roles permits.
#[must_use]
pub fn granted_by(roles: Roles) -> Permissions {
    roles.iter().flat_map(|role| role.permissions().iter().copied()).collect()
}

impl Role {
    fn permissions(self) -> &'static [Permission] {
        match self {
            Self::User => &[Permission::DashboardRead],
            Self::Admin => Permission::ALL,
            Self::Introspector => &[Permission::TokensIntrospect],
        }
    }
}

/// A closed list of names: the variants of an enum, each with the name it has in JSON and in SQL.
pub trait Label: Copy + 'static {
    /// Every label there is.
    const ALL: &'static [Self];

    /// Returns the name of the label.
    fn as_str(self) -> &'static str;

    /// Finds the label that has a name.
    #[must_use]
    fn find(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|label| label.as_str() == name)
    }
}

/// A label that a set has a bit for: one of at most eight.
pub trait Bit: Label {
    /// Returns the label's position in [`Label::ALL`].
    fn index(self) -> u8;
}

impl Label for Role {
    const ALL: &'static [Self] = &[Self::User, Self::Admin, Self::Introspector];

    fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
            Self::Introspector => "introspector",
        }
    }
}

impl Bit for Role {
    fn index(self) -> u8 {
        self as u8
    }
}

impl Label for Permission {
    const ALL: &'static [Self] =
        &[Self::DashboardRead, Self::UsersRead, Self::UsersWrite, Self::TokensIntrospect];

    fn as_str(self) -> &'static str {
        match self {
            Self::DashboardRead => "dashboard:read",
            Self::UsersRead => "users:read",
            Self::UsersWrite => "users:write",
            Self::TokensIntrospect => "tokens:introspect",
        }
    }
}

impl Bit for Permission {
    fn index(self) -> u8 {
        self as u8
    }
}

/// A set of labels, one bit each: copied, not allocated, when a token is checked.
#[derive(PartialEq, Eq)]
pub struct LabelSet<L> {
    bits: u8,
    labels: PhantomData<L>,
}

/// A name that is none of the labels.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{0}` is not a known name")]
pub struct UnknownLabel(String);

impl UnknownLabel {
    /// Says that a name is not known.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }
}

impl<L: Bit> LabelSet<L> {
    /// Reads a set from the names of its labels.
    ///
    /// # Errors
    /// When a name is not known.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownLabel> {
        names.into_iter().map(|name| L::find(name).ok_or_else(|| UnknownLabel::new(name))).collect()
    }

    /// Tells whether the label is in the set.
    #[must_use]
    pub fn contains(self, label: L) -> bool {
        self.bits & (1 << label.index()) != 0
    }

    /// Goes through the labels of the set, in the order of [`Label::ALL`].
    pub fn iter(self) -> impl Iterator<Item = L> {
        L::ALL.iter().copied().filter(move |&label| self.contains(label))
    }

    /// Goes through the names of the labels of the set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.iter().map(Label::as_str)
    }
}

// Derived, these would ask the same of `L`.
impl<L> Clone for LabelSet<L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for LabelSet<L> {}

impl<L> Default for LabelSet<L> {
    fn default() -> Self {
        Self { bits: 0, labels: PhantomData }
    }
}

impl<L: Bit> FromIterator<L> for LabelSet<L> {
    fn from_iter<I: IntoIterator<Item = L>>(labels: I) -> Self {
        let bits = labels.into_iter().fold(0, |bits, label| bits | (1 << label.index()));
        Self { bits, labels: PhantomData }
    }
}

impl<L: Bit> fmt::Debug for LabelSet<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl<L: Bit> Serialize for LabelSet<L> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

impl<'de, L: Bit> Deserialize<'de> for LabelSet<L> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names<L>(PhantomData<L>);

        impl<'de, L: Bit> Visitor<'de> for Names<L> {
            type Value = LabelSet<L>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of names")
            }

            // A name that this version does not know grants nothing here: while a fleet is being
            // upgraded, the tokens of the newer instances are still good on the older ones.
            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Self::Value, A::Error> {
                let mut bits = 0;
                while let Some(name) = names.next_element::<&str>()? {
                    bits |= L::find(name).map_or(0, |label| 1 << label.index());
                }
                Ok(LabelSet { bits, labels: PhantomData })
            }
        }

        deserializer.deserialize_seq(Names(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_may_see_the_dashboard_and_nothing_else() {
        let permissions = granted_by(Roles::from_iter([Role::User]));

        assert_eq!(permissions.names().collect::<Vec<_>>(), ["dashboard:read"]);
    }

    #[test]
    fn an_admin_may_do_everything() {
        let permissions = granted_by(Roles::from_iter([Role::Admin]));

        assert!(Permission::ALL.iter().all(|&permission| permissions.contains(permission)));
    }

    #[test]
    fn every_label_stands_at_its_own_index() {
        for (position, role) in Role::ALL.iter().enumerate() {
            assert_eq!(usize::from(role.index()), position);
        }
        for (position, permission) in Permission::ALL.iter().enumerate() {
            assert_eq!(usize::from(permission.index()), position);
        }
    }

    #[test]
    fn a_set_survives_json() {
        let permissions = Permissions::from_iter([Permission::UsersRead, Permission::UsersWrite]);

        let json = serde_json::to_string(&permissions).unwrap();

        assert_eq!(json, r#"["users:read","users:write"]"#);
        assert_eq!(serde_json::from_str::<Permissions>(&json).unwrap(), permissions);
    }

    #[test]
    fn an_unknown_name_is_ignored_in_a_token_and_refused_in_the_database() {
        let from_token: Roles = serde_json::from_str(r#"["user","astronaut"]"#).unwrap();

        assert_eq!(from_token, Roles::from_iter([Role::User]));
        assert_eq!(Roles::parse(["user", "astronaut"]), Err(UnknownLabel("astronaut".to_owned())));
    }
}
