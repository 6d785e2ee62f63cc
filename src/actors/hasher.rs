//! The hashing threads: password hashing on threads of its own, at a lower priority than those that
//! serve HTTP, behind a bounded queue. A flood of logins fills the queue and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use actix::{Actor, Handler, Message, SyncArbiter, SyncContext};
use thiserror::Error;
use tokio::time::sleep;

use super::{Mailbox, Unanswered};
use crate::clock::Clock;
use crate::config::HashSettings;
use crate::domain::{Password, PasswordHash};
use crate::hashing::{HashingError, Pbkdf2};
use crate::metrics::Metrics;

/// About a tenth of the weight of the threads that serve HTTP: enough that they always go first, and
/// not so little that a busy neighbour keeps everybody from logging in, as 19 was seen to do.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Wait before a refusal. A client that pays no heed to `Retry-After` comes back at once, thousands of
/// times a second: to refuse it at once would take the processor from the very hashes that it waits for.
const PAUSE: Duration = Duration::from_millis(100);

/// What an iteration is taken to cost until hashes have been measured.
const ASSUMED_NANOS_PER_ITERATION: u64 = 400;

/// Why there is no hash and no verdict.
#[derive(Debug, Error)]
pub enum HashError {
    /// The queue is too long: try again after a while.
    #[error("the hashing queue is full")]
    Overloaded {
        /// When the queue will probably have drained.
        retry_after: Duration,
    },
    /// The hashing threads did not answer.
    #[error("the hashing threads did not answer")]
    Unanswered(#[from] Unanswered),
    /// Hashing itself failed.
    #[error(transparent)]
    Hashing(#[from] HashingError),
}

/// The way to the hashing threads. Cloned freely; there is one queue.
#[derive(Clone)]
pub struct HashQueue {
    threads: Mailbox<HashThread>,
    gate: Arc<Gate>,
}

impl HashQueue {
    /// Starts the threads. They end when the last clone of the queue is gone.
    #[must_use]
    pub fn start(
        settings: HashSettings,
        deadline: Duration,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let gate = Arc::new(Gate::new(settings, clock, metrics));
        let pbkdf2 = Arc::new(Pbkdf2::new(settings.iterations));
        let address = SyncArbiter::start_with_thread_builder(
            settings.threads,
            || thread::Builder::new().name("hashing".to_owned()),
            move || HashThread { pbkdf2: Arc::clone(&pbkdf2) },
        );
        Self { threads: Mailbox::new(address, deadline), gate }
    }

    /// Takes a place in the queue, for work that is worth beginning only when there is one.
    ///
    /// # Errors
    /// When the queue is full, which it says after a pause.
    pub async fn enter(&self) -> Result<Place, HashError> {
        match Permit::acquire(&self.gate) {
            Ok(permit) => Ok(Place { permit, threads: self.threads.clone() }),
            Err(full) => {
                sleep(PAUSE).await;
                Err(full)
            }
        }
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// When the queue is full, or the threads do not answer.
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, HashError> {
        self.enter().await?.run(move |pbkdf2| Ok(pbkdf2.hash(&password)?)).await
    }

    /// Tells whether a hash was made at the configured cost.
    #[must_use]
    pub fn is_current(&self, stored: &PasswordHash) -> bool {
        stored.iterations() == self.gate.settings.iterations
    }
}

/// A place in the queue. Whoever gives it up unused lets the next one in.
pub struct Place {
    permit: Permit,
    threads: Mailbox<HashThread>,
}

impl Place {
    /// Tells whether a password is the one that was hashed. Nothing to check, as for a user that
    /// does not exist, is refused after the same time.
    ///
    /// # Errors
    /// When the threads do not answer.
    pub async fn verify(
        self,
        attempt: Option<(Password, PasswordHash)>,
    ) -> Result<bool, HashError> {
        self.run(move |pbkdf2| match attempt {
            Some((password, stored)) => Ok(pbkdf2.verify(&password, &stored)),
            None => Ok(pbkdf2.refuse()),
        })
        .await
    }

    async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(&Pbkdf2) -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, HashError> {
        let Self { permit, threads } = self;
        threads.ask(Job { work: Box::new(work), permit }).await
    }
}

/// One of the hashing threads.
struct HashThread {
    pbkdf2: Arc<Pbkdf2>,
}

impl Actor for HashThread {
    type Context = SyncContext<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        // On Linux the call means the calling thread; elsewhere it would slow the whole process.
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
            tracing::warn!(%error, "hashing threads keep the priority of the others");
        }
    }
}

/// Work for a hashing thread. Replies with what the work returns. A job whose asker is gone by the
/// time that a thread is free is dropped unhashed.
struct Job<T> {
    work: Work<T>,
    permit: Permit,
}

type Work<T> = Box<dyn FnOnce(&Pbkdf2) -> Result<T, HashError> + Send>;

impl<T: Send + 'static> Message for Job<T> {
    type Result = Result<T, HashError>;
}

impl<T: Send + 'static> Handler<Job<T>> for HashThread {
    type Result = Result<T, HashError>;

    fn handle(&mut self, Job { work, permit }: Job<T>, _: &mut Self::Context) -> Self::Result {
        permit.spend(|| work(&self.pbkdf2))
    }
}

/// Decides who gets into the queue, by how long they would wait in it.
struct Gate {
    settings: HashSettings,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    /// Jobs admitted and not yet done.
    depth: AtomicUsize,
    /// What a job has lately taken.
    mean_nanos: AtomicU64,
}

impl Gate {
    fn new(settings: HashSettings, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let assumed = u64::from(settings.iterations.get()) * ASSUMED_NANOS_PER_ITERATION;
        metrics.hash_threads.set(settings.threads.try_into().unwrap_or(i64::MAX));
        let gate = Self {
            settings,
            clock,
            metrics,
            depth: AtomicUsize::new(0),
            mean_nanos: AtomicU64::new(assumed),
        };
        gate.show_limit();
        gate
    }

    /// Returns how many jobs there may be: one at work on each thread, and behind it as many as
    /// get their turn within the longest wait.
    fn limit(&self) -> usize {
        let in_turn = self.settings.max_wait.as_nanos() / self.mean().as_nanos().max(1);
        let in_turn = usize::try_from(in_turn).unwrap_or(usize::MAX);
        self.settings.threads.saturating_mul(in_turn.saturating_add(1))
    }

    /// Returns how long a queue of this depth takes to drain.
    fn drain_time(&self, depth: usize) -> Duration {
        let rounds = depth.div_ceil(self.settings.threads.max(1));
        self.mean().saturating_mul(rounds.try_into().unwrap_or(u32::MAX))
    }

    fn mean(&self) -> Duration {
        Duration::from_nanos(self.mean_nanos.load(Ordering::Relaxed))
    }

    /// Moves the mean an eighth of the way. Two threads that do so at once may lose one of the
    /// samples, which the next ones make up for.
    fn learn(&self, took: Duration) {
        let sample = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let mean = self.mean_nanos.load(Ordering::Relaxed);
        self.mean_nanos.store(mean - mean / 8 + sample / 8, Ordering::Relaxed);
        self.show_limit();
    }

    fn show_limit(&self) {
        self.metrics.hash_queue_limit.set(self.limit().try_into().unwrap_or(i64::MAX));
    }

    fn count(&self, outcome: &str) {
        self.metrics.hash_jobs.with_label_values(&[outcome]).inc();
    }
}

/// What a place in the queue consists of. It belongs to the job, not to whoever asked: it is given back
/// when the job has been done, or dropped.
struct Permit {
    gate: Arc<Gate>,
    admitted_at: Duration,
    is_spent: bool,
}

impl Permit {
    fn acquire(gate: &Arc<Gate>) -> Result<Self, HashError> {
        let limit = gate.limit();
        let admit = |depth| (depth < limit).then_some(depth + 1);
        if let Err(depth) = gate.depth.fetch_update(Ordering::Relaxed, Ordering::Relaxed, admit) {
            gate.count("shed");
            return Err(HashError::Overloaded { retry_after: gate.drain_time(depth) });
        }
        gate.metrics.hash_queue_depth.inc();
        Ok(Self { gate: Arc::clone(gate), admitted_at: gate.clock.uptime(), is_spent: false })
    }

    /// Does the work, and measures it.
    fn spend<T>(mut self, work: impl FnOnce() -> T) -> T {
        self.is_spent = true;
        let started_at = self.gate.clock.uptime();
        let result = work();
        let took = self.gate.clock.uptime().saturating_sub(started_at);
        let waited = started_at.saturating_sub(self.admitted_at);
        self.gate.metrics.hash_wait.observe(waited.as_secs_f64());
        self.gate.metrics.hash_duration.observe(took.as_secs_f64());
        self.gate.learn(took);
        result
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.depth.fetch_sub(1, Ordering::Relaxed);
        self.gate.metrics.hash_queue_depth.dec();
        self.gate.count(if self.is_spent { "completed" } else { "abandoned" });
    }
}
