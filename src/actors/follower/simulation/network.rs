//! Model of the network between a receiver and the instances. It loses, delays, duplicates and
//! reorders requests and replies; a balancer chooses another instance for each request; a cache
//! replies with old replies.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::spawn_local;
use tokio::time::sleep;

use super::database::{BOUND, World};
use super::instance::Instance;
use super::protocol::{Design, Reply, Request};

/// Time between two messages of a stream.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// Network of one receiver.
pub(super) struct Network {
    pub(super) world: Arc<World>,
    pub(super) instances: Vec<Arc<Instance>>,
    pub(super) design: Design,
    /// Takes replies with the nonces of their requests; `None` for 503.
    pub(super) inbox: UnboundedSender<(u64, Option<Reply>)>,
    pub(super) rng: Mutex<Rng>,
    pub(super) old_replies: Mutex<Vec<Reply>>,
}

impl Network {
    /// Sends a request. The reply arrives in the inbox, if it does.
    pub(super) fn send(self: &Arc<Self>, request: Request) {
        if self.happens_once_in(10) {
            let old_replies = self.old_replies.lock().unwrap();
            if let Some(old) = self.rng.lock().unwrap().choice(&*old_replies) {
                let _ = self.inbox.send((old.nonce, Some(old.clone())));
            }
        }
        if self.happens_once_in(20) {
            spawn_local(Arc::clone(self).deliver(request.clone()));
        }
        spawn_local(Arc::clone(self).deliver(request));
    }

    async fn deliver(self: Arc<Self>, mut request: Request) {
        let is_stream = self.design == Design::PushWithHeartbeats;
        if is_stream {
            request.wait = HEARTBEAT;
        }
        loop {
            self.delay().await;
            let instance = self.rng.lock().unwrap().choice(&self.instances).unwrap().clone();
            let reply = instance.answer(&request).await;
            self.delay().await;
            let Some(reply) = reply else {
                let _ = self.inbox.send((request.nonce, None));
                return;
            };
            self.old_replies.lock().unwrap().push(reply.clone());
            if self.happens_once_in(20) {
                return;
            }
            for _ in 0..=u8::from(self.happens_once_in(20)) {
                let _ = self.inbox.send((reply.nonce, Some(reply.clone())));
            }
            if !is_stream {
                return;
            }
            request.cursor = Some(reply.cursor);
        }
    }

    async fn delay(&self) {
        let longest = if self.happens_once_in(15) { 3 * BOUND } else { Duration::from_millis(20) };
        let delay = longest.mul_f64(self.rng.lock().unwrap().f64());
        sleep(delay).await;
    }

    /// Returns `true` once in a number of times, and never when the faults have ended.
    fn happens_once_in(&self, times: u32) -> bool {
        !self.world.is_calm() && self.rng.lock().unwrap().u32(..times) == 0
    }
}
