//! Variables of workflows: their table and calls.

use std::sync::Arc;

use havre_api::{Empty, Routes};
use havre_base::in_place;

use crate::daemon::Daemon;
use crate::subsystem::{Part, Subsystem};
use crate::vars;

pub(crate) const PART: Part = Part {
    schema: Some(vars::SCHEMA),
    build: |daemon, _| Box::new(Vars(Arc::clone(daemon))),
};

struct Vars(Arc<Daemon>);

impl Subsystem for Vars {
    fn calls(&self) -> Option<Routes<()>> {
        let routes = Routes::new(self.0.platform.vars.clone())
            .call::<havre_api::Vars, _>(async |vars, by, query| {
                in_place(|| vars::list(&vars, &by, &query))
            })
            .call::<havre_api::VarsSet, _>(async |vars, by, request| {
                in_place(|| vars::set(&vars, &by, request))
            })
            .call::<havre_api::VarsRemove, _>(async |vars, by, request| {
                in_place(|| vars::remove(&vars, &by, request)).map(|()| Empty {})
            });
        Some(routes.erased())
    }
}
