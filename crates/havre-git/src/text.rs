//! Texts that strangers wrote, for a terminal.

/// A text without control characters and without what a terminal takes for an order.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' if chars.peek() == Some(&'[') => {
                chars.next();
                // Up to the letter that ends the order.
                chars.by_ref().find(|c| ('@'..='~').contains(c));
            }
            '\t' => plain.push(c),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_given_no_orders() {
        assert_eq!(plain("\u{1b}[31mred\u{1b}[0m\ta\r\u{7}b"), "red\tab");
        assert_eq!(plain("\u{1b}]0;title\u{7}"), "]0;title");
        assert_eq!(plain("\u{1b}["), "");
    }
}
