//! One request at a time, for whoever waits until an answer changes.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::connect::{Connector, reason};
use super::plan::{LoadPlan, PlanError};

/// Bytes of an answer that are read.
const MOST: usize = 1 << 20;

/// Asks the server of a plan, over a new connection each time as a new visitor does.
pub struct Visitor {
    connector: Connector,
    deadline: Duration,
}

impl Visitor {
    /// For the plan's server, with its deadline for requests.
    pub fn new(plan: &LoadPlan) -> Result<Self, PlanError> {
        Ok(Self {
            connector: Connector::new(plan)?,
            deadline: plan.request_deadline,
        })
    }

    /// Status and text of the answer to a GET, or why there is none.
    pub async fn get(&self, path: &str) -> Result<(u16, String), String> {
        tokio::time::timeout(self.deadline, self.ask(path))
            .await
            .map_err(|_| "no complete answer in time".to_owned())?
    }

    async fn ask(&self, path: &str) -> Result<(u16, String), String> {
        let stream = self.connector.connect(false).await;
        let stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| reason(&error))?;
        let request = Request::get(path)
            .header("host", &self.connector.authority)
            .header("connection", "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let answered = async {
            let response = sender.send_request(request).await;
            let response = response.map_err(|error| reason(&error))?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), MOST).collect().await;
            let body = body.map_err(|error| format!("truncated body: {error}"))?;
            let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            Ok((status, text))
        };
        tokio::pin!(answered);
        tokio::select! {
            result = &mut answered => return result,
            // Its errors come out at the request.
            _ = connection => {}
        }
        answered.await
    }
}
