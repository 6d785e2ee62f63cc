//! What becomes of an account on Postgres.

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{Postgres, Row};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Gateway, audit, user};
use crate::domain::{Revocation, SessionId, User, UserEdit};
use crate::store::{Ended, StoreError, UserChange, stored};

/// Locks the account to be changed, and, where that is one of them, every active administrator.
/// Whoever does that at the same time locks them in the same order. What the next statements
/// see includes every session that was opened before.
pub(super) async fn lock_users(
    gateway: &Gateway,
    connection: &mut PgConnection,
    change: &UserChange,
) -> Result<Vec<User>, StoreError> {
    let select = gateway.query(
        "select id, username, roles, created_at, disabled_at, version from users
         where id = $1
            or ($2 and 'admin' = any (roles) and disabled_at is null
                and exists (select from users where id = $1 and 'admin' = any (roles)))
         order by id for update",
    );
    let rows = select
        .bind(change.user_id.as_uuid())
        .bind(change.edit.removes_admin())
        .fetch_all(connection)
        .await?;
    rows.iter().map(user).collect()
}

/// Tells whether the session of whoever wants a change is open, and keeps it so until that is done.
/// Locks it together with those of the account, so that all are locked in one order. Without one,
/// [`carry_out`] locks the latter.
pub(super) async fn may_go_on(
    gateway: &Gateway,
    connection: &mut PgConnection,
    change: &UserChange,
) -> Result<bool, StoreError> {
    let Some(session) = change.by.session else { return Ok(true) };
    // An aggregate, since it has to see every row: `exists` would stop at the first, and lock no more.
    let select = gateway.query(
        "with locked as (
             select id from sessions where id = $1 or user_id = $2 order by id for update)
         select bool_or(id = $1) is true from locked",
    );
    let select = select.bind(session.as_uuid()).bind(change.user_id.as_uuid());
    Ok(select.fetch_one(connection).await?.try_get(0)?)
}

/// Ends the sessions of an account, makes of it what it is from then on, and says so in the audit log.
pub(super) async fn carry_out(
    gateway: &Gateway,
    connection: &mut PgConnection,
    change: &UserChange,
    after: &User,
) -> Result<Ended, StoreError> {
    let ended = end_sessions(gateway, connection, change).await?;
    update_user(gateway, after, &change.edit).execute(&mut *connection).await?;
    let record = audit::bind(gateway.query(audit::INSERT), &[change.record(after)]);
    record.execute(connection).await?;
    Ok(ended)
}

/// Ends every session of an account but one.
async fn end_sessions(
    gateway: &Gateway,
    connection: &mut PgConnection,
    change: &UserChange,
) -> Result<Ended, StoreError> {
    let delete = gateway.query(
        "with ended as (
             delete from sessions where id in (
                 select id from sessions where user_id = $1 and id is distinct from $2
                 order by id for update)
             returning id, coalesce($3, expires_at) as expires_at),
         added as (
             insert into revocations (id, expires_at) select id, expires_at from ended order by id
             on conflict (id) do nothing)
         select array_agg(id) as ids, array_agg(expires_at) as expiries,
                clock_timestamp() as ended_at
         from ended",
    );
    let row = delete
        .bind(change.user_id.as_uuid())
        .bind(change.but.map(SessionId::as_uuid))
        .bind(change.revoked_until)
        .fetch_one(connection)
        .await?;
    let ids: Option<Vec<Uuid>> = row.try_get("ids")?;
    let expiries: Option<Vec<OffsetDateTime>> = row.try_get("expiries")?;
    let ended = ids.into_iter().flatten().zip(expiries.into_iter().flatten());
    let revocations = ended.map(|(id, expires_at)| Revocation { id: id.into(), expires_at });
    Ok(Ended { revocations: revocations.collect(), ended_at: row.try_get("ended_at")? })
}

/// Prepares to make an account what it is after a change.
fn update_user(
    gateway: &Gateway,
    after: &User,
    edit: &UserEdit,
) -> Query<'static, Postgres, PgArguments> {
    if let UserEdit::Delete = edit {
        return gateway.query("delete from users where id = $1").bind(after.id.as_uuid());
    }
    let password_hash = match edit {
        UserEdit::Password(hash) => Some(hash.to_string()),
        _ => None,
    };
    let update = gateway.query(
        "update users
         set password_hash = coalesce($2, password_hash), roles = $3, disabled_at = $4, version = $5
         where id = $1",
    );
    update
        .bind(after.id.as_uuid())
        .bind(password_hash)
        .bind(after.roles.names().collect::<Vec<_>>())
        .bind(after.disabled_at)
        .bind(stored(after.version.number()))
}
