//! What havre.yaml says for one environment, as it stands there: for whoever asks where.

use crate::yaml::Map;

/// The file's `top` with what an environment says of its `own` laid over it, as [`super::lay`] does with what
/// it means.
pub(super) fn lay(top: &Map, own: Option<&Map>) -> Map {
    let mut laid = top.clone();
    laid.remove("environments");
    for (key, entry) in own.into_iter().flat_map(|own| &own.entries) {
        match key.as_str() {
            "domain" | "domains" => {
                laid.remove("domain");
                laid.remove("domains");
            }
            "rollout" => {
                if let (Some(wider), Some(own)) = (inner(&mut laid, key), entry.value.as_map()) {
                    if own.get("strategy").is_some() {
                        // These are the other strategy's.
                        wider.remove("steps");
                        wider.remove("step");
                    }
                    extend(wider, own);
                    continue;
                }
            }
            "services" => {
                if let (Some(wider), Some(own)) = (inner(&mut laid, key), entry.value.as_map()) {
                    services(wider, own);
                    continue;
                }
            }
            "networks" => {
                if let (Some(wider), Some(own)) = (inner(&mut laid, key), entry.value.as_map()) {
                    extend(wider, own);
                    continue;
                }
            }
            _ => {}
        }
        laid.entries.insert(key.clone(), entry.clone());
    }
    laid
}

fn services(wider: &mut Map, own: &Map) {
    for (name, entry) in &own.entries {
        match (inner(wider, name), entry.value.as_map()) {
            (Some(service), Some(own)) => extend(service, own),
            _ => {
                wider.entries.insert(name.clone(), entry.clone());
            }
        }
    }
}

fn inner<'m>(map: &'m mut Map, key: &str) -> Option<&'m mut Map> {
    map.get_mut(key)?.as_map_mut()
}

fn extend(wider: &mut Map, own: &Map) {
    let own = own.entries.iter();
    let own = own.map(|(key, entry)| (key.clone(), entry.clone()));
    wider.entries.extend(own);
}
