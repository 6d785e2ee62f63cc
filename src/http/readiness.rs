//! [`Readiness`]: whether the database answers, asked at most once a second.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::actors::{ActorError, Mailbox, Ping, UserActor};
use crate::clock::Clock;

/// Time for which an answer is reused.
const MAX_AGE: Duration = Duration::from_secs(1);

/// Check of the database for the probes. All probes of a second share one answer, so that they
/// cannot load the database, however many there are.
pub struct Readiness {
    users: Mailbox<UserActor>,
    clock: Arc<dyn Clock>,
    latest: Mutex<Option<Answer>>,
}

/// Result of a check, with the time at which it began.
struct Answer {
    asked_at: Duration,
    result: Result<(), ActorError>,
}

impl Readiness {
    /// Creates the check.
    #[must_use]
    pub fn new(users: Mailbox<UserActor>, clock: Arc<dyn Clock>) -> Self {
        Self { users, clock, latest: Mutex::default() }
    }

    /// Checks that the database answers.
    ///
    /// # Errors
    /// Returns the reason why it does not.
    pub(super) async fn check(&self) -> Result<(), ActorError> {
        let mut latest = self.latest.lock().await;
        let asked_at = self.clock.uptime();
        if let Some(answer) = &*latest
            && asked_at.saturating_sub(answer.asked_at) < MAX_AGE
        {
            return answer.result.clone();
        }
        let result = self.users.ask(Ping).await;
        *latest = Some(Answer { asked_at, result: result.clone() });
        result
    }
}
