//! The hashing queue. Passwords are hashed on separate threads, at a lower priority than those that
//! serve HTTP, behind a bounded queue: a flood of logins slows nothing but logins.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use actix::{Actor, Handler, Message, SyncArbiter, SyncContext};
use tokio::time::sleep;

use super::{ActorError, Mailbox};
use crate::clock::Clock;
use crate::config::HashSettings;
use crate::domain::{Password, PasswordHash};
use crate::hashing::Pbkdf2;
use crate::metrics::{HashJobOutcome, Metrics};

/// Niceness of the hashing threads: about a tenth of the weight of the threads that serve HTTP. At
/// 19, a busy neighbour was seen to keep every user from logging in.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Delay before a refusal. Clients that ignore `Retry-After` come back at once, thousands of times
/// a second; immediate refusals would take the processor from the hashes that the clients wait for.
const REFUSAL_DELAY: Duration = Duration::from_millis(100);

/// Assumed duration of an iteration, until hashes have been measured.
const ASSUMED_NANOS_PER_ITERATION: u64 = 400;

/// Handle of the hashing threads. Clones share one queue.
#[derive(Clone)]
pub struct HashQueue {
    threads: Mailbox<HashThread>,
    admission: Arc<AdmissionControl>,
}

impl HashQueue {
    /// Starts the threads. They end when the last clone of the queue is dropped.
    #[must_use]
    pub fn start(
        settings: HashSettings,
        timeout: Duration,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let admission = Arc::new(AdmissionControl::new(settings, clock, metrics));
        let pbkdf2 = Arc::new(Pbkdf2::new(settings.iterations));
        let address = SyncArbiter::start_with_thread_builder(
            settings.threads,
            || thread::Builder::new().name("hashing".to_owned()),
            move || HashThread { pbkdf2: Arc::clone(&pbkdf2) },
        );
        Self { threads: Mailbox::new(address, timeout), admission }
    }

    /// Takes a place in the queue, for work that is worth starting only with one.
    ///
    /// # Errors
    /// Returns [`ActorError::Overloaded`], after a delay, if the queue is full.
    pub async fn acquire(&self) -> Result<HashPermit, ActorError> {
        match self.admission.admit() {
            Ok(()) => Ok(HashPermit {
                threads: self.threads.clone(),
                admission: Arc::clone(&self.admission),
                admitted_at: self.admission.clock.uptime(),
                is_used: false,
            }),
            Err(retry_after) => {
                sleep(REFUSAL_DELAY).await;
                Err(ActorError::Overloaded { retry_after })
            }
        }
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// Returns [`ActorError::Overloaded`], [`ActorError::Ask`] or [`ActorError::Hashing`].
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, ActorError> {
        self.acquire().await?.run(move |pbkdf2| Ok(pbkdf2.hash(&password)?)).await
    }

    /// Returns `true` if a hash has the configured cost.
    #[must_use]
    pub fn is_current(&self, stored: &PasswordHash) -> bool {
        stored.iterations() == self.admission.settings.iterations
    }
}

/// Place in the hashing queue, released when the permit is dropped. A job owns its permit: a hash
/// that has started keeps its place even if the caller has left.
pub struct HashPermit {
    threads: Mailbox<HashThread>,
    admission: Arc<AdmissionControl>,
    /// Uptime at admission.
    admitted_at: Duration,
    is_used: bool,
}

impl HashPermit {
    /// Returns `true` if a password matches a hash. `None`, for an unknown user, is refused after
    /// the same time.
    ///
    /// # Errors
    /// Returns [`ActorError::Ask`] if the threads do not reply.
    pub async fn verify(
        self,
        attempt: Option<(Password, PasswordHash)>,
    ) -> Result<bool, ActorError> {
        self.run(move |pbkdf2| match attempt {
            Some((password, stored)) => Ok(pbkdf2.verify(&password, &stored)),
            None => Ok(pbkdf2.refuse()),
        })
        .await
    }

    async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(&Pbkdf2) -> Result<T, ActorError> + Send + 'static,
    ) -> Result<T, ActorError> {
        let threads = self.threads.clone();
        threads.ask(HashJob { work: Box::new(work), permit: self }).await
    }

    /// Does the work and measures it.
    fn run_measured<T>(mut self, work: impl FnOnce() -> T) -> T {
        self.is_used = true;
        let clock = &self.admission.clock;
        let started_at = clock.uptime();
        let result = work();
        let duration = clock.uptime().saturating_sub(started_at);
        self.admission.observe(started_at.saturating_sub(self.admitted_at), duration);
        result
    }
}

impl Drop for HashPermit {
    fn drop(&mut self) {
        self.admission.release(if self.is_used {
            HashJobOutcome::Completed
        } else {
            HashJobOutcome::Abandoned
        });
    }
}

/// Actor on one hashing thread.
struct HashThread {
    pbkdf2: Arc<Pbkdf2>,
}

impl Actor for HashThread {
    type Context = SyncContext<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        // On Linux the call affects the calling thread, elsewhere the whole process.
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
            tracing::warn!(%error, "failed to lower the priority of a hashing thread");
        }
    }
}

/// Work for a hashing thread. Replies with its result. actix drops a job whose caller has left by
/// the time a thread is free.
#[derive(Message)]
#[rtype(result = "Result<T, ActorError>")]
struct HashJob<T: Send + 'static> {
    #[expect(clippy::type_complexity, reason = "used once")]
    work: Box<dyn FnOnce(&Pbkdf2) -> Result<T, ActorError> + Send>,
    permit: HashPermit,
}

impl<T: Send + 'static> Handler<HashJob<T>> for HashThread {
    type Result = Result<T, ActorError>;

    fn handle(&mut self, job: HashJob<T>, _: &mut Self::Context) -> Self::Result {
        job.permit.run_measured(|| (job.work)(&self.pbkdf2))
    }
}

/// Bounds the queue by the expected wait in it.
struct AdmissionControl {
    settings: HashSettings,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    /// Jobs admitted and not yet done.
    depth: AtomicUsize,
    /// Moving average of the duration of a job.
    mean_nanos: AtomicU64,
}

impl AdmissionControl {
    fn new(settings: HashSettings, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let assumed_nanos = u64::from(settings.iterations.get()) * ASSUMED_NANOS_PER_ITERATION;
        metrics.hash_threads.set(settings.threads.try_into().unwrap_or(i64::MAX));
        let admission = Self {
            settings,
            clock,
            metrics,
            depth: AtomicUsize::new(0),
            mean_nanos: AtomicU64::new(assumed_nanos),
        };
        admission.export_limit();
        admission
    }

    /// Admits a job, or returns the time until the queue has probably drained.
    fn admit(&self) -> Result<(), Duration> {
        let limit = self.limit();
        let admitted = |depth| (depth < limit).then_some(depth + 1);
        if let Err(depth) = self.depth.fetch_update(Ordering::Relaxed, Ordering::Relaxed, admitted)
        {
            self.metrics.hash_jobs.inc(HashJobOutcome::Shed);
            return Err(self.drain_time(depth));
        }
        self.metrics.hash_queue_depth.inc();
        Ok(())
    }

    fn release(&self, outcome: HashJobOutcome) {
        self.depth.fetch_sub(1, Ordering::Relaxed);
        self.metrics.hash_queue_depth.dec();
        self.metrics.hash_jobs.inc(outcome);
    }

    /// Returns the maximum number of jobs: one on each thread, and behind it those that start
    /// within the maximum wait.
    fn limit(&self) -> usize {
        let jobs_in_turn = self.settings.max_wait.as_nanos() / self.mean().as_nanos().max(1);
        let waiting = usize::try_from(jobs_in_turn).unwrap_or(usize::MAX);
        self.settings.threads.saturating_mul(waiting.saturating_add(1))
    }

    /// Returns the expected time until a queue of this depth has drained.
    fn drain_time(&self, depth: usize) -> Duration {
        let rounds = depth.div_ceil(self.settings.threads.max(1));
        self.mean().saturating_mul(rounds.try_into().unwrap_or(u32::MAX))
    }

    fn mean(&self) -> Duration {
        Duration::from_nanos(self.mean_nanos.load(Ordering::Relaxed))
    }

    /// Records a job, and moves the average an eighth of the way to its duration. Of two threads
    /// that do so at once one sample may be lost, which later ones make up for.
    fn observe(&self, waited: Duration, duration: Duration) {
        self.metrics.hash_wait.observe(waited.as_secs_f64());
        self.metrics.hash_duration.observe(duration.as_secs_f64());
        let sample = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let mean = self.mean_nanos.load(Ordering::Relaxed);
        self.mean_nanos.store(mean - mean / 8 + sample / 8, Ordering::Relaxed);
        self.export_limit();
    }

    fn export_limit(&self) {
        self.metrics.hash_queue_limit.set(self.limit().try_into().unwrap_or(i64::MAX));
    }
}
