//! Requests at their planned instants.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connect::{Connector, reason};
use super::plan::{LoadPlan, Shot};
use super::report::Tally;

type Body = Full<Bytes>;

/// Kept connections are used again for this long; servers close theirs later.
const KEEP: Duration = Duration::from_secs(2);

/// Starts requests.
pub struct Pacer {
    gun: Arc<Gun>,
    tasks: TaskTracker,
}

struct Gun {
    plan: Arc<LoadPlan>,
    connector: Arc<Connector>,
    tally: Arc<Tally>,
    kept: Mutex<VecDeque<(http1::SendRequest<Body>, Instant)>>,
    shared: tokio::sync::Mutex<Option<http2::SendRequest<Body>>>,
    in_flight: AtomicUsize,
    /// A permit per HTTP/1.1 connection in use.
    places: tokio::sync::Semaphore,
}

impl Pacer {
    pub fn new(
        plan: &Arc<LoadPlan>,
        connector: &Arc<Connector>,
        tally: &Arc<Tally>,
        tasks: &TaskTracker,
    ) -> Self {
        let gun = Gun {
            plan: Arc::clone(plan),
            connector: Arc::clone(connector),
            tally: Arc::clone(tally),
            kept: Mutex::default(),
            shared: tokio::sync::Mutex::default(),
            in_flight: AtomicUsize::new(0),
            places: tokio::sync::Semaphore::new(plan.most_connections),
        };
        Self {
            gun: Arc::new(gun),
            tasks: tasks.clone(),
        }
    }

    /// Starts requests until told to end.
    pub async fn run(&self, end: &CancellationToken) {
        let plan = &self.gun.plan;
        if plan.rate <= 0.0 {
            return end.cancelled().await;
        }
        let begin = Instant::now();
        let order = order(&plan.shots);
        for (number, shot) in order.iter().cycle().enumerate() {
            let planned = begin + Duration::from_secs_f64(number as f64 / plan.rate);
            tokio::select! {
                () = tokio::time::sleep_until(planned.into()) => {}
                () = end.cancelled() => return,
            }
            self.gun.tally.request();
            let gun = Arc::clone(&self.gun);
            let shot = *shot;
            self.tasks
                .spawn(async move { gun.shoot(shot, planned).await });
        }
    }
}

/// Indices of the shots, each as often as its weight says, well mixed: whoever is most behind its
/// share comes next.
fn order(shots: &[Shot]) -> Vec<usize> {
    let total: u32 = shots.iter().map(|shot| shot.weight).sum();
    let mut credit = vec![0_i64; shots.len()];
    let mut order = Vec::new();
    for _ in 0..total.min(10_000) {
        for (credit, shot) in credit.iter_mut().zip(shots) {
            *credit += i64::from(shot.weight);
        }
        let next = (0..shots.len()).max_by_key(|index| (credit[*index], shots.len() - index));
        let Some(next) = next else { break };
        credit[next] -= i64::from(total);
        order.push(next);
    }
    order
}

impl Gun {
    async fn shoot(&self, number: usize, planned: Instant) {
        let shot = &self.plan.shots[number];
        let what = format!("{} {}", shot.method, shot.path);
        if self.in_flight.fetch_add(1, Ordering::AcqRel) >= self.plan.most_in_flight {
            self.in_flight.fetch_sub(1, Ordering::AcqRel);
            return self.tally.failure(&what, "too many requests are under way");
        }
        let request = self.exchange(shot);
        let deadline = planned + self.plan.request_deadline;
        let result = match tokio::time::timeout_at(deadline.into(), request).await {
            Ok(result) => result,
            Err(_) => Err("no complete answer in time".to_owned()),
        };
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
        match result {
            Ok(()) => self.tally.success(planned),
            Err(why) => self.tally.failure(&what, &why),
        }
    }

    async fn exchange(&self, shot: &Shot) -> Result<(), String> {
        if self.plan.http2 {
            return self.exchange_http2(shot).await;
        }
        let mut request = self.request(shot)?;
        let _place = self
            .places
            .acquire()
            .await
            .map_err(|error| error.to_string())?;
        loop {
            let (mut sender, reused) = match self.take_kept() {
                Some(sender) => (sender, true),
                None => (self.connect().await?, false),
            };
            let response = match sender.try_send_request(request).await {
                Ok(response) => response,
                Err(mut error) => match error.take_message() {
                    Some(unsent) if reused => {
                        request = unsent;
                        continue;
                    }
                    _ => return Err(reason(error.error())),
                },
            };
            finish(shot, response).await?;
            if sender.ready().await.is_ok() {
                self.lock_kept().push_back((sender, Instant::now()));
            }
            return Ok(());
        }
    }

    async fn exchange_http2(&self, shot: &Shot) -> Result<(), String> {
        let mut request = self.request(shot)?;
        for _ in 0..3 {
            let mut sender = self.shared_connection().await?;
            let response = match sender.try_send_request(request).await {
                Ok(response) => response,
                Err(mut error) => match error.take_message() {
                    Some(unsent) => {
                        self.shared.lock().await.take();
                        request = unsent;
                        continue;
                    }
                    None => {
                        self.shared.lock().await.take();
                        return Err(reason(error.error()));
                    }
                },
            };
            return finish(shot, response).await;
        }
        Err("the connection was closed three times before the request was sent".to_owned())
    }

    async fn shared_connection(&self) -> Result<http2::SendRequest<Body>, String> {
        let mut shared = self.shared.lock().await;
        if let Some(sender) = shared.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let stream = self
            .connector
            .connect(true)
            .await
            .map_err(|error| connect_reason(&error))?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| reason(&error))?;
        self.tally.connection();
        // Its errors come out at the requests.
        tokio::spawn(async move { drop(connection.await) });
        *shared = Some(sender.clone());
        Ok(sender)
    }

    async fn connect(&self) -> Result<http1::SendRequest<Body>, String> {
        let stream = self
            .connector
            .connect(false)
            .await
            .map_err(|error| connect_reason(&error))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| reason(&error))?;
        self.tally.connection();
        // Its errors come out at the requests.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    fn take_kept(&self) -> Option<http1::SendRequest<Body>> {
        let mut kept = self.lock_kept();
        while let Some((sender, since)) = kept.pop_back() {
            if since.elapsed() > KEEP {
                kept.clear();
                return None;
            }
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    fn lock_kept(&self) -> MutexGuard<'_, VecDeque<(http1::SendRequest<Body>, Instant)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(&self, shot: &Shot) -> Result<Request<Body>, String> {
        let mut builder = Request::builder().method(shot.method.clone());
        builder = if self.plan.http2 {
            builder.uri(format!("https://{}{}", self.connector.authority, shot.path))
        } else {
            builder
                .uri(&shot.path)
                .header("host", &self.connector.authority)
        };
        for (name, value) in &shot.headers {
            builder = builder.header(name, value);
        }
        builder
            .body(Full::new(shot.body.clone()))
            .map_err(|error| error.to_string())
    }
}

async fn finish(
    shot: &Shot,
    response: http::Response<hyper::body::Incoming>,
) -> Result<(), String> {
    let status = response.status().as_u16();
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        frame.map_err(|error| format!("truncated body: {}", reason(&error)))?;
    }
    if shot.expect.contains(&status) {
        Ok(())
    } else {
        Err(format!("status {status}"))
    }
}

fn connect_reason(error: &std::io::Error) -> String {
    format!("cannot connect: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shots_are_mixed_by_weight() {
        let mut shots = vec![Shot::get("/a"), Shot::get("/b"), Shot::get("/c")];
        shots[0].weight = 3;
        shots[2].weight = 0;
        assert_eq!(order(&shots), [0, 0, 1, 0]);
    }
}
