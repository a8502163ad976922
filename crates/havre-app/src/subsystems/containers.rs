//! Containers of this machine: what is known of them is compared with what is there now and then.

use havre_engine::Engine;

use crate::inventory;
use crate::subsystem::{Subsystem, Task};

pub(crate) struct Containers(pub(crate) Engine);

impl Subsystem for Containers {
    fn tasks(&self) -> Vec<Task> {
        let engine = self.0.clone();
        let keep = move |task| inventory::keep(engine.clone(), task);
        vec![Task::new("containers", keep)]
    }
}
