//! The audit trail: its calls of the API, and what keeps it within bounds.

use std::time::Duration;

use havre_api::{AuditExport, AuditLog, AuditVerify, Routes};
use havre_audit::{Retention, Trail};
use havre_base::{in_place, one_line};
use havre_secrets::Seal;

use crate::audit;
use crate::subsystem::{Part, Subsystem, Task};
use crate::supervisor::Supervised;

/// How often refusals that were too many are summed up, and old records looked for.
const EVERY: Duration = Duration::from_secs(60);

pub(crate) const PART: Part = Part {
    schema: Some(havre_audit::SCHEMA),
    build: |daemon, _| {
        let platform = &daemon.platform;
        Box::new(Audit(platform.trail.clone(), platform.seal.clone()))
    },
};

struct Audit(Trail, Seal);

impl Subsystem for Audit {
    fn calls(&self) -> Option<Routes<()>> {
        let routes = Routes::new(self.0.clone())
            .call::<AuditLog, _>(async |trail, _, query| audit::log(&trail, query))
            .call::<AuditVerify, _>(async |trail, _, request| audit::verify(&trail, &request))
            .feed::<AuditExport, _>(async |trail, _, query, lines| {
                audit::export(&trail, query, lines).await
            });
        Some(routes.erased())
    }

    fn tasks(&self) -> Vec<Task> {
        let (trail, seal) = (self.0.clone(), self.1.clone());
        let keep = move |task| keep(trail.clone(), seal.clone(), task);
        vec![Task::new("audit trail", keep)]
    }
}

async fn keep(trail: Trail, seal: Seal, task: Supervised) {
    loop {
        tokio::select! {
            () = task.end.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let tidied = in_place(|| {
            // Somebody may have opened it meanwhile.
            audit::give_key(&trail, &seal);
            trail.tidy(Retention::default())
        });
        task.report(match tidied {
            Ok(None) => Ok("nothing to remove".to_owned()),
            Ok(Some(cut)) => {
                tracing::info!(
                    up_to = cut.sequence,
                    "old records of the audit trail were removed"
                );
                Ok(format!("removed up to record {}", cut.sequence))
            }
            Err(error) => {
                let error = one_line(&error);
                tracing::warn!(error, "the audit trail cannot be shortened");
                Err(error)
            }
        });
    }
}
