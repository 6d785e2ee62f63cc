//! What becomes of an account on SQLite, where whoever writes is alone.

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Row, Sqlite, query};
use uuid::Uuid;

use super::{audit, insert_revocations, micros, now, role_names, user};
use crate::domain::{Initiator, Revocation, SessionId, User, UserEdit};
use crate::store::{Ended, StoreError, UserChange, from_micros, stored};

/// Reads the account to be changed, and every active administrator where there could be one less.
pub(super) async fn affected_users(
    connection: &mut SqliteConnection,
    change: &UserChange,
) -> Result<Vec<User>, StoreError> {
    let rows = query(
        "select id, username, roles, created_at, disabled_at, version from users
         where id = ?1
            or (?2 and instr(' ' || roles || ' ', ' admin ') > 0 and disabled_at is null)",
    )
    .bind(change.user_id.as_uuid())
    .bind(change.edit.removes_admin())
    .fetch_all(connection)
    .await?;
    rows.iter().map(user).collect()
}

/// Tells whether the session of whoever wants something is open.
pub(super) async fn may_go_on(
    connection: &mut SqliteConnection,
    by: &Initiator,
) -> Result<bool, StoreError> {
    let Some(session) = by.session else { return Ok(true) };
    let select = query("select 1 from sessions where id = ?1").bind(session.as_uuid());
    Ok(select.fetch_optional(connection).await?.is_some())
}

/// Ends the sessions of an account, makes of it what it is from then on, and says so in the audit log.
pub(super) async fn carry_out(
    connection: &mut SqliteConnection,
    change: &UserChange,
    after: &User,
) -> Result<Ended, StoreError> {
    let ended = end_sessions(connection, change).await?;
    update_user(after, &change.edit).execute(&mut *connection).await?;
    audit::insert(connection, &[change.record(after)]).await?;
    Ok(ended)
}

/// Ends every session of an account but one.
async fn end_sessions(
    connection: &mut SqliteConnection,
    change: &UserChange,
) -> Result<Ended, StoreError> {
    let now = now(connection).await?;
    let rows = query(
        "delete from sessions where user_id = ?1 and id is not ?2
         returning id, coalesce(?3, expires_at) as expires_at",
    )
    .bind(change.user_id.as_uuid())
    .bind(change.but.map(SessionId::as_uuid))
    .bind(change.revoked_until.map(micros))
    .fetch_all(&mut *connection)
    .await?;
    let revocations = rows.iter().map(revocation).collect::<Result<Vec<_>, _>>()?;
    insert_revocations(connection, &revocations, now).await?;
    Ok(Ended { revocations, ended_at: from_micros("revocations", "revoked_at", now)? })
}

fn revocation(row: &SqliteRow) -> Result<Revocation, StoreError> {
    Ok(Revocation {
        id: row.try_get::<Uuid, _>("id")?.into(),
        expires_at: from_micros("sessions", "expires_at", row.try_get("expires_at")?)?,
    })
}

/// Prepares to make an account what it is after a change.
fn update_user(after: &User, edit: &UserEdit) -> Query<'static, Sqlite, SqliteArguments> {
    if let UserEdit::Delete = edit {
        return query("delete from users where id = ?1").bind(after.id.as_uuid());
    }
    let password_hash = match edit {
        UserEdit::Password(hash) => Some(hash.to_string()),
        _ => None,
    };
    query(
        "update users
         set password_hash = coalesce(?2, password_hash), roles = ?3, disabled_at = ?4, version = ?5
         where id = ?1",
    )
    .bind(after.id.as_uuid())
    .bind(password_hash)
    .bind(role_names(after))
    .bind(after.disabled_at.map(micros))
    .bind(stored(after.version.number()))
}
