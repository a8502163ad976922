//! "Did you mean …?"

/// Longer words are no slips of the hand.
const MAX_LENGTH: usize = 64;
/// Looked at, at most: a suggestion is a courtesy and must not cost more than the reading.
const MAX_CANDIDATES: usize = 500;

/// The candidate nearest to `word`, if it is near enough to be a slip of the hand.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if word.len() > MAX_LENGTH {
        return None;
    }
    let normal = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let word = normal(word);
    let limit = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .take(MAX_CANDIDATES)
        .filter(|candidate| candidate.len() <= MAX_LENGTH)
        .map(|candidate| (distance(&word, &normal(candidate)), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, delete, replace, swap of neighbours) between two short words.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let width = b.len() + 1;
    let mut rows = vec![0; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            let at = i * width + j;
            rows[at] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = usize::from(a[i - 1] != b[j - 1]);
                let mut best = (rows[at - width] + 1)
                    .min(rows[at - 1] + 1)
                    .min(rows[at - width - 1] + change);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[at - 2 * width - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len() * width + b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let keys = ["image", "environment", "healthcheck", "depends_on"];
        assert_eq!(nearest("imagee", keys), Some("image"));
        assert_eq!(nearest("enviroment", keys), Some("environment"));
        assert_eq!(nearest("health-check", keys), Some("healthcheck"));
        assert_eq!(nearest("dependson", keys), Some("depends_on"));
        assert_eq!(nearest("iamge", keys), Some("image"));
        assert_eq!(nearest("foo", keys), None);
    }
}
