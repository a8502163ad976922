//! The subsystems' adapters, a file each.

pub(crate) mod access;
pub(crate) mod audit;
pub(crate) mod certificates;
pub(crate) mod containers;
pub(crate) mod control;
pub(crate) mod edge;
pub(crate) mod environments;
pub(crate) mod images;
pub(crate) mod mirrors;
pub(crate) mod networks;
pub(crate) mod pipeline;
pub(crate) mod promotions;
pub(crate) mod repositories;
pub(crate) mod secrets;
pub(crate) mod sources;
pub(crate) mod vars;
