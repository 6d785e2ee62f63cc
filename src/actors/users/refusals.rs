//! Reports refused logins in the log and the audit log, at a bounded rate.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use crate::actors::limiter::{Limiter, REPORTS, TOTAL_REPORTS};
use crate::clock::Clock;
use crate::domain::{AuditAction, AuditRecord, Requester, User, UserId};
use crate::store::Store;
use crate::telemetry::ErrorChain;

/// Reports of refused logins. Clones share one limit.
#[derive(Clone)]
pub(super) struct Refusals {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    limiter: Rc<RefCell<Limiter<Subject>>>,
}

impl Refusals {
    pub(super) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        let limiter = Limiter::new(REPORTS, TOTAL_REPORTS, clock.uptime());
        Self { store, clock, limiter: Rc::new(RefCell::new(limiter)) }
    }

    /// Reports a refused login. `account` is the one with the name; other names are not reported,
    /// since people type passwords there.
    pub(super) fn report(&self, account: Option<&User>, requester: &Requester) {
        let Some(origin) = &requester.origin else { return };
        let subject = match account {
            Some(user) => Subject::Account(user.id),
            None => Subject::Address(origin.address),
        };
        let admitted = self.limiter.borrow_mut().admit(subject, self.clock.uptime());
        let Some(unreported) = admitted else { return };
        tracing::info!(
            user.id = account.map(|user| tracing::field::display(user.id)),
            user.name = account.map(|user| user.username.as_str()),
            client.address = %origin.address,
            client.user_agent = origin.user_agent.as_str(),
            unreported,
            "login refused"
        );
        if let Some(user) = account {
            // Not awaited: the time of the reply must not tell that the account exists.
            actix::spawn(self.clone().record(user.clone(), requester.clone(), unreported));
        }
    }

    async fn record(self, user: User, requester: Requester, unreported: u64) {
        let session_id = requester.session_id;
        let action = AuditAction::LoginRefused;
        let mut record = AuditRecord::for_user(self.clock.now(), action, &user, requester);
        record.session_id = session_id;
        if unreported > 0 {
            let name = user.username.as_str();
            record.detail = Some(format!("{name} ({unreported} more since the last record)"));
        }
        if let Err(error) = self.store.insert_audit_record(&record).await {
            let error = ErrorChain(&error);
            tracing::warn!(user.id = %user.id, %error, "failed to record a refused login");
        }
    }
}

/// Account that a report is about or, where no account has the name, the address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Subject {
    Account(UserId),
    Address(IpAddr),
}
