//! Dependency order.

use std::collections::{BTreeMap, BTreeSet};

use havre_model::ServiceName;

use crate::ServiceRelease;

/// Services so that each comes after those it depends on; by name where nothing else decides. The
/// reader refuses cycles; should one get here, its members come last, by name.
pub fn dependency_order(services: &BTreeMap<ServiceName, ServiceRelease>) -> Vec<&ServiceName> {
    let mut ordered = Vec::with_capacity(services.len());
    let mut placed = BTreeSet::new();
    while placed.len() < services.len() {
        let before = placed.len();
        for (name, service) in services {
            let free = service
                .service
                .depends_on
                .keys()
                .all(|needed| placed.contains(needed) || !services.contains_key(needed));
            if free && placed.insert(name) {
                ordered.push(name);
            }
        }
        if placed.len() == before {
            ordered.extend(services.keys().filter(|name| !placed.contains(name)));
            break;
        }
    }
    ordered
}
