//! What a program printed, as a person wants to read it.

/// Without the lines that a program drew over one another to show how far it is, and without the
/// table that curl draws where it should have been told `-sS`.
pub(crate) fn without_progress(output: &str) -> String {
    let mut kept = String::with_capacity(output.len());
    for line in output.split_inclusive('\n') {
        let (text, end) = match line.strip_suffix('\n') {
            Some(text) => (text, "\n"),
            None => (line, ""),
        };
        // The last one drawn is the one that stays.
        let last = text
            .trim_end_matches('\r')
            .rsplit('\r')
            .next()
            .unwrap_or(text);
        let Some(shown) = without_meter(last) else {
            continue;
        };
        kept.push_str(shown);
        kept.push_str(end);
    }
    kept.trim_start_matches('\n').to_owned()
}

/// What is left of a line when curl's meter is taken away; `None`: nothing was on it but that.
fn without_meter(line: &str) -> Option<&str> {
    let words = line.trim_start();
    let header = words.starts_with("% Total") && words.contains("% Received")
        || words.starts_with("Dload") && words.contains("Upload");
    if header {
        return None;
    }
    // What curl has to say may stand right behind the last number.
    let message = line.find("curl: (");
    let drawn = &line[..message.unwrap_or(line.len())];
    if !is_meter(drawn) {
        return Some(line);
    }
    message.map(|at| &line[at..])
}

/// `  0   512    0     0    0     0      0      0 --:--:--  0:00:01 --:--:--     0`
fn is_meter(text: &str) -> bool {
    let figure = |word: &str| {
        word.bytes()
            .all(|b| b.is_ascii_digit() || b":-.kMGT".contains(&b))
    };
    let words = || text.split_ascii_whitespace();
    words().count() >= 9 && words().all(figure)
}

#[cfg(test)]
mod tests {
    use super::without_progress;

    #[test]
    fn curls_meter_is_not_shown_and_what_it_says_is() {
        let header = "  % Total    % Received % Xferd  Average Speed   Time    Time     Time  Current\n\
                      \x20                                Dload  Upload   Total   Spent    Left  Speed\n";
        let row = "  0     0    0     0    0     0      0      0 --:--:-- --:--:-- --:--:--     0";
        let refused = "curl: (7) Failed to connect to localhost port 5000";
        for output in [
            format!("{header}\r{row}\r{row}\n{refused}\n"),
            format!("{header}\r{row}{refused}\n"),
            format!("{header}\n\r{row}\r{row}\r\n{refused}\n"),
        ] {
            assert_eq!(
                without_progress(&output),
                format!("{refused}\n"),
                "{output:?}"
            );
        }
    }

    #[test]
    fn what_a_probe_says_stays() {
        for output in [
            "",
            "no bread yet\n",
            "a\n\nb",
            "1 2 3\n",
            "port 80: curl: (7) no\n",
        ] {
            assert_eq!(without_progress(output), output);
        }
        assert_eq!(without_progress("10%\r50%\r100%\ndone\r\n"), "100%\ndone\n");
    }
}
