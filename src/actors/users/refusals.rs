//! Reports refused passwords: in a metric and, at a bounded rate, in the log and the audit log.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tracing::Instrument;

use crate::actors::ActorError;
use crate::actors::limiter::{Limiter, REPORTS, TOTAL_REPORTS};
use crate::clock::Clock;
use crate::domain::{AuditAction, AuditRecord, CounterId, Network, Requester, User, UserId};
use crate::metrics::{Door, Metrics, RefusalReason};
use crate::store::Store;
use crate::telemetry::ErrorChain;

/// Reports of refused passwords. Clones share the limits.
#[derive(Clone)]
pub(super) struct Refusals {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    accounts: Rc<RefCell<Limiter<UserId>>>,
    /// Networks that try other names, apart: they cannot silence the reports about accounts.
    networks: Rc<RefCell<Limiter<Network>>>,
}

/// A refused attempt.
struct Refusal {
    door: Door,
    reason: RefusalReason,
    account: Option<User>,
    name_hash: Option<CounterId>,
    requester: Requester,
}

impl Refusals {
    pub(super) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let now = clock.uptime();
        let accounts = Rc::new(RefCell::new(Limiter::new(REPORTS, TOTAL_REPORTS, now)));
        let networks = Rc::new(RefCell::new(Limiter::new(REPORTS, TOTAL_REPORTS, now)));
        Self { store, clock, metrics, accounts, networks }
    }

    /// Reports an attempt that was refused because of `error`; other errors are not reported here.
    /// `account` is the one with the name. Of another name, the log has only the keyed hash, since
    /// people type passwords there.
    pub(super) fn report(
        &self,
        door: Door,
        account: Option<&User>,
        name_hash: Option<CounterId>,
        error: &ActorError,
        requester: &Requester,
    ) {
        let Some(reason) = refusal_reason(error) else { return };
        self.metrics.passwords_refused(door, reason).inc();
        let refusal = Refusal {
            door,
            reason,
            account: account.cloned(),
            name_hash,
            requester: requester.clone(),
        };
        // Not awaited: the time of the reply must not tell that the account exists.
        actix::spawn(self.clone().write(refusal).in_current_span());
    }

    async fn write(self, refusal: Refusal) {
        let Refusal { door, reason, account, name_hash, requester } = refusal;
        let Some(origin) = &requester.origin else { return };
        let now = self.clock.uptime();
        let admitted = match &account {
            Some(user) => self.accounts.borrow_mut().admit(user.id, now),
            None => self.networks.borrow_mut().admit(Network::from(origin), now),
        };
        let Some(unreported) = admitted else { return };
        let name_hash = name_hash.filter(|_| account.is_none()).map(CounterId::as_uuid);
        tracing::info!(
            door = <&str>::from(door),
            reason = <&str>::from(reason),
            user.id = account.as_ref().map(|user| tracing::field::display(user.id)),
            user.name = account.as_ref().map(|user| user.username.as_str()),
            user.name_hash = name_hash.map(tracing::field::display),
            client.address = %origin.address,
            client.user_agent = origin.user_agent.as_str(),
            unreported,
            "login refused"
        );
        if let Some(user) = account {
            self.record(user, requester, reason, unreported).await;
        }
    }

    async fn record(
        &self,
        user: User,
        requester: Requester,
        reason: RefusalReason,
        unreported: u64,
    ) {
        let session_id = requester.session_id;
        let action = AuditAction::LoginRefused;
        let mut record = AuditRecord::for_user(self.clock.now(), action, &user, requester);
        record.session_id = session_id;
        let name = user.username.as_str();
        let reason = match reason {
            RefusalReason::WrongPassword => "",
            RefusalReason::TooManyAttempts => ": too many attempts",
        };
        record.detail = Some(match unreported {
            0 => format!("{name}{reason}"),
            _ => format!("{name}{reason} ({unreported} more since the last record)"),
        });
        if let Err(error) = self.store.insert_audit_record(&record).await {
            let error = ErrorChain(&error);
            tracing::warn!(user.id = %user.id, %error, "failed to record a refused login");
        }
    }
}

/// Returns the reason why a password was refused; `None` if it was not.
fn refusal_reason(error: &ActorError) -> Option<RefusalReason> {
    match error {
        ActorError::InvalidCredentials => Some(RefusalReason::WrongPassword),
        ActorError::TooManyAttempts { .. } => Some(RefusalReason::TooManyAttempts),
        _ => None,
    }
}
