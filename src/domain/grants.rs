//! Decides which permissions a requester can grant: those that it holds.

use thiserror::Error;

use super::Permissions;

/// Permissions that a requester can grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grantable {
    /// All of them: the requester is an operator on the command line, or the service itself.
    All,
    /// The permissions that the requester holds.
    Held(Permissions),
}

/// Refusal to grant permissions that the requester lacks.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("Permissions can be granted only by a requester that has them: {0}")]
pub struct LackingPermissions(pub Permissions);

impl Grantable {
    /// Checks a grant.
    ///
    /// # Errors
    /// Returns [`LackingPermissions`] with the permissions that the requester lacks.
    pub fn check(&self, granted: &Permissions) -> Result<(), LackingPermissions> {
        match self {
            Self::All => Ok(()),
            Self::Held(held) => {
                let lacking = granted.without(held);
                if lacking.is_empty() { Ok(()) } else { Err(LackingPermissions(lacking)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requester_grants_what_it_holds() {
        let permissions = |names: &str| Permissions::from_scope(names);
        let grantable = Grantable::Held(permissions("users:write orders:read"));

        assert_eq!(grantable.check(&permissions("orders:read")), Ok(()));
        assert_eq!(grantable.check(&permissions("")), Ok(()));
        let lacking = LackingPermissions(permissions("keys:write orders:write"));
        let granted = permissions("keys:write orders:read orders:write");
        assert_eq!(grantable.check(&granted), Err(lacking));
        assert_eq!(Grantable::All.check(&granted), Ok(()));
    }
}
