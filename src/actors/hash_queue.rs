//! The hashing queue. Passwords are hashed on separate threads, at a lower priority than those that
//! serve HTTP, behind a bounded queue: a flood of logins slows nothing but logins. The queue is fair:
//! a flood from one network does not keep others from logging in.

use std::collections::{HashMap, HashSet, VecDeque};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use actix::{Actor, Handler, Message, SyncArbiter, SyncContext};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::fair_queue::{FairQueue, Share};
use super::hash_times::{ASSUMED_PER_ITERATION, JobTime};
use super::mailbox::{Mailbox, accept_deliveries};
use super::{ActorError, AskError};
use crate::clock::Clock;
use crate::config::HashSettings;
use crate::domain::{HashCost, Password, PasswordHash};
use crate::hashing::{self, PasswordHasher};
use crate::metrics::{HashJobOutcome, Metrics};

/// Niceness of the hashing threads: about a tenth of the weight of the threads that serve HTTP. At
/// 19, a busy neighbour was seen to keep every user from logging in.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Delay before a refusal; the queue varies it by half. Clients that ignore `Retry-After` come back
/// at once, thousands of times a second; immediate refusals would take the processor from the
/// hashes that the clients wait for.
pub(super) const REFUSAL_DELAY: Duration = Duration::from_millis(100);

/// Number of the latest turns that count for the claim to a place. More would hold a quiet hour
/// against a large network when a flood begins.
const RECENT_TURNS: usize = 100;

/// Handle of the hashing threads. Clones share one queue.
#[derive(Clone)]
pub struct HashQueue {
    threads: Mailbox<HashThread>,
    admission: Arc<AdmissionControl>,
    /// Longest wait for a turn.
    timeout: Duration,
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
        let hasher = Arc::new(PasswordHasher::new(settings.iterations));
        let address = SyncArbiter::start_with_thread_builder(
            settings.threads,
            || thread::Builder::new().name("hashing".to_owned()),
            move || HashThread { hasher: Arc::clone(&hasher) },
        );
        Self { threads: Mailbox::new(address, timeout), admission, timeout }
    }

    /// Waits in the queue for a turn on the threads, for work that is worth starting only with one.
    ///
    /// # Errors
    /// Returns [`ActorError::Overloaded`], after a delay, if the queue is full and the share has no
    /// better claim than those that wait, or if a newcomer with a better claim takes the place.
    /// Returns [`ActorError::Ask`] if there is no turn in time.
    pub async fn acquire(&self, share: Share) -> Result<HashPermit, ActorError> {
        let Some((ticket, turn)) = self.admission.enter(share) else {
            return Err(self.refuse().await);
        };
        let permit = HashPermit {
            threads: self.threads.clone(),
            admission: Arc::clone(&self.admission),
            share,
            ticket,
            admitted_at: self.admission.clock.uptime(),
            is_used: false,
        };
        match timeout(self.timeout, turn).await {
            Ok(Ok(())) => Ok(permit),
            Ok(Err(_displaced)) => Err(self.refuse().await),
            Err(_) => Err(AskError::Timeout(self.timeout).into()),
        }
    }

    async fn refuse(&self) -> ActorError {
        let retry_after = self.admission.drain_time();
        // Varied, so that clients who are refused together do not come back together.
        sleep(REFUSAL_DELAY.mul_f64(0.5 + fastrand::f64())).await;
        ActorError::Overloaded { retry_after }
    }

    /// Hashes a new password at the configured cost.
    ///
    /// # Errors
    /// Returns [`ActorError::Overloaded`], [`ActorError::Ask`] or [`ActorError::Hashing`].
    pub async fn hash(&self, password: Password, share: Share) -> Result<PasswordHash, ActorError> {
        self.hash_with(self.admission.settings.iterations, password, share).await
    }

    /// Hashes a password at a cost.
    ///
    /// # Errors
    /// Like [`Self::hash`].
    pub async fn hash_with(
        &self,
        iterations: NonZeroU32,
        password: Password,
        share: Share,
    ) -> Result<PasswordHash, ActorError> {
        let permit = self.acquire(share).await?;
        let job = permit.run(move |hasher| Ok(hasher.hash_with(iterations, &password)?)).await?;
        Ok(job.result)
    }

    /// Returns the iterations of the hash that replaces one after a login; `None` if it stays.
    #[must_use]
    pub fn replacement(&self, stored: &PasswordHash) -> Option<NonZeroU32> {
        stored.replacement(self.admission.settings.iterations)
    }

    /// Measures a hash of a cost. It takes no turn: a full queue does not refuse it, and it waits
    /// only for the jobs that are in turn.
    ///
    /// # Errors
    /// Returns [`ActorError::Ask`] if the threads do not reply.
    pub async fn measure(&self, cost: HashCost) -> Result<JobTime, ActorError> {
        self.threads.ask(Measurement { cost, clock: Arc::clone(&self.admission.clock) }).await
    }
}

/// Turn in the hashing queue, released when the permit is dropped. A job owns its permit: a hash
/// that has started keeps its turn even if the caller has left.
pub struct HashPermit {
    threads: Mailbox<HashThread>,
    admission: Arc<AdmissionControl>,
    share: Share,
    ticket: Ticket,
    /// Uptime at admission.
    admitted_at: Duration,
    is_used: bool,
}

impl HashPermit {
    /// Returns `true` if a password matches a hash. `None`, for an unknown user, is refused after
    /// the time of a wrong password with that number of forms.
    ///
    /// # Errors
    /// Returns [`ActorError::Ask`] if the threads do not reply.
    pub async fn verify(
        self,
        attempt: Option<(Password, PasswordHash)>,
        forms: u32,
    ) -> Result<HashJobResult<bool>, ActorError> {
        self.run(move |hasher| match attempt {
            Some((password, stored)) => Ok(hasher.verify(&password, &stored)),
            None => Ok(hasher.refuse(forms)),
        })
        .await
    }

    async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(&PasswordHasher) -> Result<T, ActorError> + Send + 'static,
    ) -> Result<HashJobResult<T>, ActorError> {
        let threads = self.threads.clone();
        threads.ask(HashJob { work: Box::new(work), permit: self }).await
    }

    /// Does the work and measures it.
    fn run_measured<T>(mut self, work: impl FnOnce() -> T) -> (T, JobTime) {
        self.is_used = true;
        let (result, time) = measured(&*self.admission.clock, work);
        let waited = time.started_at.saturating_sub(self.admitted_at);
        self.admission.observe(waited, time.elapsed);
        (result, time)
    }
}

/// Result of a job, and the time that it took.
pub struct HashJobResult<T> {
    pub result: T,
    pub time: JobTime,
}

fn measured<T>(clock: &dyn Clock, work: impl FnOnce() -> T) -> (T, JobTime) {
    let (started_at, thread_time) = (clock.uptime(), clock.thread_time());
    let result = work();
    let elapsed = clock.uptime().saturating_sub(started_at);
    let processor = clock.thread_time().saturating_sub(thread_time);
    (result, JobTime { started_at, elapsed, processor })
}

impl Drop for HashPermit {
    fn drop(&mut self) {
        let outcome =
            if self.is_used { HashJobOutcome::Completed } else { HashJobOutcome::Abandoned };
        self.admission.leave(self.share, self.ticket, outcome);
    }
}

/// Actor on one hashing thread.
struct HashThread {
    hasher: Arc<PasswordHasher>,
}

accept_deliveries!(HashThread);

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
#[rtype(result = "Result<HashJobResult<T>, ActorError>")]
struct HashJob<T: Send + 'static> {
    #[expect(clippy::type_complexity, reason = "used once")]
    work: Box<dyn FnOnce(&PasswordHasher) -> Result<T, ActorError> + Send>,
    permit: HashPermit,
}

impl<T: Send + 'static> Handler<HashJob<T>> for HashThread {
    type Result = Result<HashJobResult<T>, ActorError>;

    fn handle(&mut self, job: HashJob<T>, _: &mut Self::Context) -> Self::Result {
        let (result, time) = job.permit.run_measured(|| (job.work)(&self.hasher));
        Ok(HashJobResult { result: result?, time })
    }
}

/// Measures a stand-in for a hash. Replies with its time.
#[derive(Message)]
#[rtype(result = "Result<JobTime, ActorError>")]
struct Measurement {
    cost: HashCost,
    clock: Arc<dyn Clock>,
}

impl Handler<Measurement> for HashThread {
    type Result = Result<JobTime, ActorError>;

    fn handle(
        &mut self,
        Measurement { cost, clock }: Measurement,
        _: &mut Self::Context,
    ) -> Self::Result {
        Ok(measured(&*clock, || hashing::spend(cost)).1)
    }
}

/// Number of a place in the queue.
type Ticket = u64;

/// Place whose owner waits for its turn.
struct Waiting {
    ticket: Ticket,
    share: Share,
    turn: oneshot::Sender<()>,
}

/// Places in the queue.
struct Places {
    waiting: FairQueue<Waiting>,
    /// Places whose turn it is. Others wait only while all turns are taken.
    in_turn: HashSet<Ticket>,
    /// Shares of the latest turns, the oldest first.
    recent_turns: VecDeque<Share>,
    /// Places taken so far.
    count: Ticket,
}

impl Places {
    /// Returns the number of places taken.
    fn depth(&self) -> usize {
        self.waiting.len() + self.in_turn.len()
    }

    /// Takes the next free turn.
    fn next_turn(&mut self, turns: usize) -> Option<oneshot::Sender<()>> {
        if self.in_turn.len() >= turns {
            return None;
        }
        let Waiting { ticket, share, turn } = self.waiting.pop()?;
        self.in_turn.insert(ticket);
        self.recent_turns.push_back(share);
        if self.recent_turns.len() > RECENT_TURNS {
            self.recent_turns.pop_front();
        }
        Some(turn)
    }

    /// Frees the place of a waiting job that has a lesser claim than a newcomer, if there is one.
    fn displace(&mut self, newcomer: Share) -> Option<Waiting> {
        let mut turns: HashMap<Share, usize> = HashMap::new();
        for share in &self.recent_turns {
            *turns.entry(*share).or_default() += 1;
        }
        self.waiting.displace(newcomer, |share| turns.get(&share).copied().unwrap_or_default())
    }
}

/// Bounds the queue by the expected wait in it, and gives the turns.
struct AdmissionControl {
    settings: HashSettings,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    places: Mutex<Places>,
    /// Moving average of the duration of a job. Their algorithms differ while hashes of other
    /// systems are replaced; the average of the mixture tells how fast the queue drains.
    mean_nanos: AtomicU64,
}

impl AdmissionControl {
    fn new(settings: HashSettings, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let assumed = ASSUMED_PER_ITERATION * settings.iterations.get();
        metrics.hash_threads.set(settings.threads.try_into().unwrap_or(i64::MAX));
        let places = Places {
            waiting: FairQueue::new(),
            in_turn: HashSet::new(),
            recent_turns: VecDeque::new(),
            count: 0,
        };
        let admission = Self {
            settings,
            clock,
            metrics,
            places: Mutex::new(places),
            mean_nanos: AtomicU64::new(nanos(assumed)),
        };
        admission.export_limit();
        admission
    }

    /// Gives a newcomer a place, which tells when it has its turn, or returns `None` to refuse it.
    fn enter(&self, share: Share) -> Option<(Ticket, oneshot::Receiver<()>)> {
        let (sender, turn) = oneshot::channel();
        let limit = self.limit();
        let mut displaced = None;
        let mut places = self.places();
        if places.depth() >= limit {
            // Either the newcomer or the one that it displaces.
            self.metrics.hash_jobs.inc(HashJobOutcome::Shed);
            displaced = Some(places.displace(share)?);
        }
        places.count += 1;
        let ticket = places.count;
        places.waiting.push(share, Waiting { ticket, share, turn: sender });
        self.export_depth(&places);
        drop((places, displaced));
        self.give_turn();
        Some((ticket, turn))
    }

    /// Frees a place, unless it has been given to a newcomer.
    fn leave(&self, share: Share, ticket: Ticket, outcome: HashJobOutcome) {
        let mut places = self.places();
        let is_held = places.in_turn.remove(&ticket)
            || places.waiting.remove(share, |waiting| waiting.ticket == ticket);
        if is_held {
            self.metrics.hash_jobs.inc(outcome);
        }
        self.export_depth(&places);
        drop(places);
        self.give_turn();
    }

    /// Gives the turn that is free, if one is. Wakes its owner only after the lock is released: the
    /// owner may preempt a hashing thread, which must not hold the lock then.
    fn give_turn(&self) {
        let next = self.places().next_turn(self.turns());
        if let Some(turn) = next {
            // An owner that has left gives the turn back when its permit is dropped.
            let _ = turn.send(());
        }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the maximum number of jobs: one on each thread, and behind it those that start
    /// within the maximum wait. At least one, if any may wait: where none waits, the next turn goes to
    /// the network that asks most often.
    fn limit(&self) -> usize {
        let HashSettings { threads, max_wait, .. } = self.settings;
        let jobs_in_turn = max_wait.as_nanos() / self.mean().as_nanos().max(1);
        let waiting = usize::try_from(jobs_in_turn).unwrap_or(usize::MAX);
        let waiting = waiting.max(usize::from(!max_wait.is_zero()));
        threads.saturating_mul(waiting.saturating_add(1))
    }

    /// Returns the number of turns: one for a job on each thread, and one for a job that reads its
    /// account meanwhile, but for at most half of those behind. The others wait where newcomers can
    /// overtake them: the mailbox of the threads is first come, first served.
    fn turns(&self) -> usize {
        let threads = self.settings.threads;
        threads + threads.min((self.limit() - threads) / 2)
    }

    /// Returns the expected time until the queue has drained.
    fn drain_time(&self) -> Duration {
        let rounds = self.places().depth().div_ceil(self.settings.threads.max(1));
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
        let mean = self.mean_nanos.load(Ordering::Relaxed);
        self.mean_nanos.store(mean - mean / 8 + nanos(duration) / 8, Ordering::Relaxed);
        self.export_limit();
    }

    fn export_depth(&self, places: &Places) {
        self.metrics.hash_queue_depth.set(places.depth().try_into().unwrap_or(i64::MAX));
    }

    fn export_limit(&self) {
        self.metrics.hash_queue_limit.set(self.limit().try_into().unwrap_or(i64::MAX));
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    /// One thread, hashes of about 0.1 s, and a maximum wait of 3 s.
    fn admission() -> AdmissionControl {
        let iterations = NonZeroU32::new(250_000).unwrap();
        let settings = HashSettings { iterations, threads: 1, max_wait: Duration::from_secs(3) };
        let metrics = Arc::new(Metrics::new().unwrap());
        AdmissionControl::new(settings, Arc::new(SystemClock), metrics)
    }

    fn observe(admission: &AdmissionControl, jobs: u32, millis: u64) {
        for _ in 0..jobs {
            admission.observe(Duration::ZERO, Duration::from_millis(millis));
        }
    }

    /// After an import of hashes that take 1 s, some 30 would wait for 30 s.
    #[test]
    fn queue_shrinks_when_hashes_of_another_system_take_longer() {
        let admission = admission();
        assert_eq!(admission.limit(), 31);

        observe(&admission, 8, 1_000);
        assert!((4..=6).contains(&admission.limit()), "{}", admission.limit());
        observe(&admission, 50, 1_000);
        assert_eq!(admission.limit(), 4);

        // Each login with such a hash is followed by a hash of the configured cost.
        for _ in 0..50 {
            observe(&admission, 1, 1_000);
            observe(&admission, 1, 100);
        }
        assert!((6..=7).contains(&admission.limit()), "{}", admission.limit());

        observe(&admission, 50, 100);
        assert!((29..=31).contains(&admission.limit()), "{}", admission.limit());
    }

    #[test]
    fn expected_wait_follows_the_duration_of_the_jobs() {
        let admission = admission();
        let share = Share::from(&crate::domain::Requester::COMMAND_LINE);
        let waiting: Vec<_> = (0..3).map(|_| admission.enter(share).unwrap()).collect();
        assert_eq!(admission.drain_time(), Duration::from_millis(300));

        observe(&admission, 100, 1_000);
        assert!(admission.drain_time() > Duration::from_millis(2_990));
        drop(waiting);
    }
}
