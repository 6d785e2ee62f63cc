//! Reports refresh tokens that are presented again, at a bounded rate.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tracing::Instrument;

use crate::actors::limiter::{Limiter, REPORTS, TOTAL_REPORTS};
use crate::clock::Clock;
use crate::domain::{AuditAction, AuditRecord, RequestOrigin, Requester, SessionId, UserId};
use crate::metrics::Metrics;
use crate::store::Store;
use crate::telemetry::ErrorChain;

/// Reports of retries and replays. Clones share their limits.
#[derive(Clone)]
pub(super) struct Reports {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    retries: Rc<RefCell<Limiter<UserId>>>,
    /// Retries must not hide replays, so these have a limit of their own.
    replays: Rc<RefCell<Limiter<UserId>>>,
}

impl Reports {
    pub(super) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let [retries, replays] = [(); 2]
            .map(|()| Rc::new(RefCell::new(Limiter::new(REPORTS, TOTAL_REPORTS, clock.uptime()))));
        Self { store, clock, metrics, retries, replays }
    }

    /// Counts a replay, and logs it. Its audit record is written when its session ends, so there is
    /// one for each session at most.
    pub(super) fn replay(&self, user_id: UserId, session_id: SessionId, origin: &RequestOrigin) {
        self.metrics.refresh_tokens_reused.inc();
        let admitted = self.replays.borrow_mut().admit(user_id, self.clock.uptime());
        let Some(unreported) = admitted else { return };
        tracing::warn!(
            user.id = %user_id,
            session.id = %session_id,
            client.address = %origin.address,
            client.user_agent = origin.user_agent.as_str(),
            unreported,
            "refresh token replayed; ending its session"
        );
    }

    /// Counts a retry, logs it and records it in the audit log.
    pub(super) fn retry(&self, user_id: UserId, session_id: SessionId, origin: RequestOrigin) {
        self.metrics.refresh_tokens_retried.inc();
        let admitted = self.retries.borrow_mut().admit(user_id, self.clock.uptime());
        let Some(unreported) = admitted else { return };
        tracing::info!(
            user.id = %user_id,
            session.id = %session_id,
            client.address = %origin.address,
            client.user_agent = origin.user_agent.as_str(),
            unreported,
            "refresh token retried"
        );
        let record = AuditRecord {
            at: self.clock.now(),
            action: AuditAction::RefreshTokenRetried,
            requester: Requester::anonymous(origin),
            subject: Some(user_id),
            session_id: Some(session_id),
            detail: (unreported > 0).then(|| format!("{unreported} more since the last record")),
        };
        // Not awaited: the retry succeeds whether or not this does.
        actix::spawn(self.clone().record(user_id, record).in_current_span());
    }

    async fn record(self, user_id: UserId, record: AuditRecord) {
        if let Err(error) = self.store.insert_audit_record(&record).await {
            let error = ErrorChain(&error);
            tracing::warn!(user.id = %user_id, %error, "failed to record a retried refresh");
        }
    }
}
