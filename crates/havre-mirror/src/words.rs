//! What is said of a commit, as GitHub takes it. Pure.

/// Longest description, in characters; GitHub's.
pub const MOST_DESCRIPTION: usize = 140;
/// Longest context.
pub const MOST_CONTEXT: usize = 255;

/// On one line, and not longer than `most` characters.
pub fn short(text: &str, most: usize) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let plain: String = plain.take(most + 1).collect();
    match plain.chars().count() > most {
        true => plain.chars().take(most - 1).chain(['…']).collect(),
        false => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_where_it_is_too_long() {
        assert_eq!(short("a\nb", 140), "a b");
        assert_eq!(short("äöüß", 4), "äöüß");
        assert_eq!(short("äöüß!", 4), "äöü…");
    }
}
