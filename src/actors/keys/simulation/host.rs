//! Model of the machine of an instance: its clock, its freezes and its connection to the database.

use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use fastrand::Rng;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::database::{Database, Variant, World};
use crate::clock::Clock;
use crate::domain::{
    ChangedKeys, ClientSet, FeedCursor, KeyChange, KeySet, Requester, ServerId, Snapshot,
    WrappedKey,
};
use crate::store::{Feed, FeedBatch, KeyStore, KeyWriteError, SharedSetting, StoreError};

/// Longest duration of a slow step of the database.
const SLOW: Duration = Duration::from_secs(90);
/// Longest time from the decision about a change until its commit.
const LOCK_TIME: Duration = Duration::from_secs(1);

/// Machine of an instance.
pub(super) struct Host {
    pub(super) world: Arc<World>,
    state: Mutex<HostState>,
}

struct HostState {
    rng: Rng,
    /// Whether the faults have ended.
    is_calm: bool,
    /// End of the latest freeze.
    frozen_until: Instant,
    /// End of the latest failure of the connection.
    cut_until: Instant,
    /// Error of the time of day.
    skew: time::Duration,
}

/// Outcomes of a statement.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Succeeds,
    /// Fails before it has any effect.
    Fails,
    /// Takes effect, but its reply is lost.
    LosesReply,
}

/// Course of a statement.
struct Course {
    fate: Fate,
    request: Duration,
    lock: Duration,
    reply: Duration,
}

impl Host {
    pub(super) fn new(world: Arc<World>, rng: Rng) -> Self {
        let now = Instant::now();
        let state = HostState {
            rng,
            is_calm: false,
            frozen_until: now,
            cut_until: now,
            skew: time::Duration::ZERO,
        };
        Self { world, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, HostState> {
        self.state.lock().unwrap()
    }

    pub(super) fn freeze(&self, duration: Duration) {
        self.state().frozen_until = Instant::now() + duration;
    }

    pub(super) fn is_frozen(&self) -> bool {
        Instant::now() < self.state().frozen_until
    }

    pub(super) fn cut(&self, duration: Duration) {
        self.state().cut_until = Instant::now() + duration;
    }

    pub(super) fn set_clock(&self, skew: time::Duration) {
        self.state().skew = skew;
    }

    /// Ends all faults.
    pub(super) fn calm(&self) {
        let now = Instant::now();
        let mut state = self.state();
        state.is_calm = true;
        state.frozen_until = now;
        state.cut_until = now;
    }

    /// Runs a task, but not while the host is frozen.
    pub(super) async fn run<T>(&self, task: impl Future<Output = T>) -> T {
        let mut task = pin!(task);
        let mut thaw = pin!(sleep(Duration::ZERO));
        poll_fn(|context| {
            let frozen_until = self.state().frozen_until;
            if Instant::now() < frozen_until {
                thaw.as_mut().reset(frozen_until);
                if thaw.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
            }
            task.as_mut().poll(context)
        })
        .await
    }

    fn course(&self) -> Course {
        let mut state = self.state();
        let is_calm = state.is_calm;
        let rng = &mut state.rng;
        let mut delay = || {
            let longest = if is_calm || rng.u8(..8) > 0 { Duration::ZERO } else { SLOW };
            longest.mul_f64(rng.f64())
        };
        let [request, reply] = [(); 2].map(|()| delay());
        let lock = LOCK_TIME.mul_f64(rng.f64());
        let fate = match rng.u8(..24) {
            0 if !is_calm => Fate::Fails,
            1 if !is_calm => Fate::LosesReply,
            _ => Fate::Succeeds,
        };
        Course { fate, request, lock, reply }
    }

    /// Waits for a slow step, and for the connection.
    async fn wait(&self, delay: Duration) {
        if !delay.is_zero() {
            sleep(delay).await;
        }
        let cut_until = self.state().cut_until;
        if Instant::now() < cut_until {
            sleep_until(cut_until).await;
        }
    }

    /// Reads the database.
    async fn query<T>(&self, read: impl FnOnce(&Database) -> T) -> Result<T, StoreError> {
        let course = self.course();
        self.wait(course.request).await;
        let result = read(&self.world.database());
        self.wait(course.reply).await;
        course.fate.reply(result)
    }

    /// Changes the database. Once sent, the statement takes effect even if its caller has left.
    async fn commit<T: Send + 'static>(
        &self,
        write: impl FnOnce(&World, Duration) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let course = self.course();
        self.wait(Duration::ZERO).await;
        if course.fate == Fate::Fails {
            return Err(StoreError::Replica);
        }
        let world = Arc::clone(&self.world);
        let commit = tokio::spawn(async move {
            sleep(course.request + course.lock).await;
            write(&world, course.lock)
        });
        let result = commit.await.map_err(|_| StoreError::Replica)?;
        self.wait(course.reply).await;
        course.fate.reply(result)
    }
}

impl Fate {
    fn reply<T>(self, result: T) -> Result<T, StoreError> {
        match self {
            Self::Succeeds => Ok(result),
            Self::Fails | Self::LosesReply => Err(StoreError::Replica),
        }
    }
}

impl Clock for Host {
    fn now(&self) -> OffsetDateTime {
        self.world.now() + self.state().skew
    }

    fn uptime(&self) -> Duration {
        Duration::from_hours(1) + self.world.at()
    }
}

#[async_trait]
impl KeyStore for Host {
    async fn root_key_wrappings(&self) -> Result<Vec<WrappedKey>, StoreError> {
        self.query(|database| database.wrappings.clone()).await
    }

    async fn insert_root_key(&self, _: &WrappedKey) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn add_wrapping(&self, _: &WrappedKey) -> Result<(), StoreError> {
        Ok(())
    }

    async fn delete_other_wrappings(
        &self,
        _: &str,
        _: &Requester,
    ) -> Result<Option<usize>, StoreError> {
        Ok(None)
    }

    async fn read_keys(&self) -> Result<KeySet, StoreError> {
        self.query(Database::key_set).await
    }

    async fn change_keys(&self, change: &KeyChange) -> Result<Option<ChangedKeys>, KeyWriteError> {
        let change = change.clone();
        Ok(self.commit(move |world, lock_time| world.change_keys(&change, lock_time)).await??)
    }

    async fn announce(&self, _: SharedSetting, _: &str) -> Result<Option<String>, StoreError> {
        Ok(None)
    }
}

/// Feed of the model.
pub(super) struct ModelFeed {
    host: Arc<Host>,
    /// Number of revocations read; `None` before the first read.
    position: Option<usize>,
    /// Version at the latest read.
    version: i64,
    /// Number of restores at the latest read.
    restores: u32,
}

impl ModelFeed {
    pub(super) fn new(host: Arc<Host>) -> Self {
        Self { host, position: None, version: 0, restores: 0 }
    }
}

#[async_trait]
impl Feed for ModelFeed {
    async fn read(&mut self, limit: Duration) -> Result<FeedBatch, StoreError> {
        let world = Arc::clone(&self.host.world);
        let (position, restores) = (self.position, self.restores);
        let read = self.host.query(|database| {
            let position = position.filter(|_| restores == database.restores);
            let batch = FeedBatch {
                entries: database.revocations[position.unwrap_or(0)..].to_vec(),
                read_at: world.now(),
                version: database.version,
                is_full_reload: position.is_none(),
                cursor: FeedCursor { server: ServerId([0; 8]), snapshot: Snapshot::below(1) },
            };
            (batch, database.revocations.len(), database.restores)
        });
        let read = timeout(limit, read).await.map_err(|_| StoreError::Timeout(limit))?;
        let (mut batch, position, restores) = read?;
        self.position = Some(position);
        self.restores = restores;
        let former_version = mem::replace(&mut self.version, batch.version);
        if matches!(world.variant, Variant::LateKeys | Variant::LateKeysAlone) {
            // The follower learns of new keys one read later.
            batch.version = former_version;
        }
        Ok(batch)
    }

    async fn read_keys(&mut self, limit: Duration) -> Result<KeySet, StoreError> {
        let read = self.host.query(Database::key_set);
        timeout(limit, read).await.map_err(|_| StoreError::Timeout(limit))?
    }

    async fn read_clients(&mut self, _: Duration) -> Result<ClientSet, StoreError> {
        Ok(ClientSet::default())
    }

    fn request_full_reload(&mut self) {
        self.position = None;
    }
}
