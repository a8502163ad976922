//! Promotions: their tables, calls and the task that keeps them going.

use std::sync::Arc;

use havre_api::{
    Empty, EnvironmentEnter, EnvironmentFreeze, EnvironmentReport, Environments, EnvironmentsApply,
    Promote, PromotionApprove, PromotionReject, Promotions, Provenance, Routes, StatusQuery,
};
use havre_base::in_place;

use crate::beyond;
use crate::daemon::Daemon;
use crate::promotions::{answers, definitions, entry, environments, keeper, request, show, tables};
use crate::subsystem::{Part, Subsystem, Task};

pub(crate) const PART: Part = Part {
    schema: Some(tables::SCHEMA),
    build: |daemon, _| Box::new(Parts(Arc::clone(daemon))),
};

struct Parts(Arc<Daemon>);

impl Subsystem for Parts {
    fn calls(&self) -> Option<Routes<()>> {
        let routes = Routes::new(Arc::clone(&self.0))
            .call::<Promote, _>(async |daemon, by, request| {
                let by = beyond::within(by, &request.project)?;
                request::promote(&daemon, &by, request).await
            })
            .call::<Promotions, _>(async |daemon, by, query| show::list(&daemon, &by, &query).await)
            .call::<PromotionApprove, _>(async |daemon, by, request| {
                answers::approve(&daemon, &by, request).await
            })
            .call::<PromotionReject, _>(async |daemon, by, request| {
                answers::reject(&daemon, &by, request).await
            })
            .call::<Environments, _>(async |daemon, by, query| {
                environments::environments(&daemon, &by, &query).await
            })
            .call::<EnvironmentsApply, _>(async |daemon, by, request| {
                in_place(|| definitions::apply(&daemon.platform, &by, &request))?;
                let query = StatusQuery {
                    project: Some(request.project),
                    environment: None,
                };
                environments::environments(&daemon, &by, &query).await
            })
            .call::<EnvironmentFreeze, _>(async |daemon, by, request| {
                environments::freeze(&daemon, &by, request).await
            })
            .call::<EnvironmentReport, _>(async |daemon, by, request| {
                environments::report(&daemon, &by, request)
                    .await
                    .map(|()| Empty {})
            })
            .call::<EnvironmentEnter, _>(async |daemon, by, request| {
                entry::asked(&daemon, &by, request).await
            })
            .call::<Provenance, _>(async |daemon, _, query| {
                environments::provenance(&daemon, &query).await
            });
        Some(routes.erased())
    }

    fn tasks(&self) -> Vec<Task> {
        let daemon = Arc::clone(&self.0);
        let keep = move |task| keeper::keep(Arc::clone(&daemon), task);
        vec![Task::new("promotions", keep)]
    }
}
