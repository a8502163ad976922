//! What holds for every value and every text.

use havre_redact::{Filter, MASK, MAX_HELD, Stream};
use proptest::prelude::*;

fn filter(values: &[&[u8]]) -> Filter {
    Filter::new(values.iter().map(|value| ("name", *value))).0
}

fn redact(values: &[&[u8]], text: &str) -> String {
    filter(values)
        .redact(text)
        .unwrap_or_else(|| text.to_owned())
}

#[test]
fn a_value_is_masked_wherever_it_stands() {
    let password = "hunter2-and-more";
    let check =
        |text: &str, expected: &str| assert_eq!(redact(&[password.as_bytes()], text), expected);
    check("", "");
    check("hunter2-and-more", "***");
    check("a=hunter2-and-more b=hunter2-and-more\n", "a=*** b=***\n");
    check("hunter2-and-morehunter2-and-more", "***");
    check("hunter2-and-mor", "hunter2-and-mor");
    check("hunter2-and-mor\nhunter2-and-more", "hunter2-and-mor\n***");
}

#[test]
fn what_overlaps_is_one_mask() {
    let values: [&[u8]; 3] = [b"abcdefgh", b"efghijkl", b"cdefgh"];
    assert_eq!(redact(&values, "<abcdefghijkl>"), "<***>");
    assert_eq!(redact(&values, "<abefghijkl>"), "<ab***>");
    assert_eq!(redact(&values, "<cdefgh>"), "<***>");
}

#[test]
fn each_encoding_is_masked() {
    let value = "it's a <\"pass\\word\"> & 100% $ecret/\u{fc}";
    let json = serde_json::json!({ "a": value }).to_string();
    let twice = serde_json::json!({ "a": json }).to_string();
    let cases = [
        json.as_str(),
        twice.as_str(),
        r#""it's a <\"pass\\word\"> & 100% $ecret\/\u00fc""#,
        r#""it's a \u003c\"pass\\word\"\u003e \u0026 100% $ecret/ü""#,
        "it%27s%20a%20%3C%22pass%5Cword%22%3E%20%26%20100%25%20%24ecret%2F%C3%BC",
        "it's%20a%20%3C%22pass%5Cword%22%3E%20%26%20100%25%20%24ecret%2F%C3%BC",
        "it%27s+a+%3c%22pass%5cword%22%3e+%26+100%25+%24ecret%2f%c3%bc",
        "it's a &lt;&quot;pass\\word&quot;&gt; &amp; 100% $ecret/ü",
        "it&#39;s a &lt;&#34;pass\\word&#34;&gt; &amp; 100% $ecret/ü",
        r#"'it'\''s a <"pass\word"> & 100% $ecret/ü'"#,
        r#""it's a <\"pass\\word\"> & 100% \$ecret/ü""#,
        r#"it\'s\ a\ \<\"pass\\word\"\>\ \&\ 100%\ \$ecret/ü"#,
        r#"'it\'s a <"pass\\word"> & 100% $ecret/ü'"#,
    ];
    for case in cases {
        let masked = redact(&[value.as_bytes()], case);
        assert!(masked.contains(MASK), "{case}");
        assert!(
            !masked.contains("pass") && !masked.contains("cret"),
            "{case}: {masked}"
        );
    }
}

#[test]
fn what_bash_and_python_print_is_masked() {
    for (value, printed) in [
        ("pa,ss#w~rd!x{y}z=q", r"pa\,ss#w~rd\!x\{y\}z=q"),
        ("sp ace+plus/sl~tilde*", r"sp\ ace+plus/sl~tilde\*"),
        ("path=~x:~y[1]^z?", r"path=\~x:\~y\[1\]\^z\?"),
        ("#pass,word", r"\#pass\,word"),
        ("p\u{e4}ss w'x,y", r"$'p\303\244ss w\'x,y'"),
        ("p\u{e4}ss w'x,y", r#"b"p\xc3\xa4ss w'x,y""#),
        ("p\u{e4}'\"ss\\word", r#"b'p\xc3\xa4\'"ss\\word'"#),
        ("12 34\n56 78\n90", "12 34\r\n56 78\r\n90"),
    ] {
        let masked = redact(&[value.as_bytes()], printed);
        assert!(masked.len() <= MASK.len() + 3, "{printed}: {masked}");
        assert!(masked.contains(MASK), "{printed}: {masked}");
    }
    let raw = redact(&[b"pass\xffword"], r"b'pass\xffword'");
    assert_eq!(raw, "b'***'");
}

#[test]
fn a_key_is_masked_as_a_file_and_line_by_line() {
    let line = |n: u32| {
        (0..64)
            .map(|at| char::from(b'A' + ((at * 7 + n * 3) % 26) as u8))
            .collect::<String>()
    };
    let lines: Vec<_> = (0..20).map(line).collect();
    let key = format!(
        "-----BEGIN KEY-----\n{}\nshort==\n-----END KEY-----\n",
        lines.join("\n")
    );
    let values = [key.as_bytes()];
    assert_eq!(redact(&values, &key), "***\n");
    for line in &lines {
        assert_eq!(redact(&values, line), "***");
    }
    let json = serde_json::json!({ "key": key.as_str() }).to_string();
    assert_eq!(redact(&values, &json), "{\"key\":\"***\\n\"}");
}

#[test]
fn wrapped_base64_is_masked() {
    let value: Vec<u8> = (0..400u32).map(|n| (n * 37 % 251) as u8).collect();
    let encoded = data_encoding::BASE64.encode(&value);
    for columns in [64, 76] {
        for line in encoded
            .as_bytes()
            .chunks(columns)
            .filter(|line| line.len() == columns)
        {
            let line = String::from_utf8_lossy(line).into_owned();
            assert_eq!(redact(&[&value], &line), "***");
        }
    }
}

/// As encoders write it on lines.
fn on_lines(encoded: &str, columns: usize, end: &str) -> String {
    let lines = encoded.as_bytes().chunks(columns);
    let lines = lines.map(|line| String::from_utf8_lossy(line).into_owned() + end);
    lines.collect()
}

/// How often 12 characters in a row of `secret` are in `masked`, whose line ends do not count.
fn shown(masked: &[u8], secret: &str) -> usize {
    let masked = String::from_utf8_lossy(masked).replace(['\r', '\n'], "");
    let parts = secret.as_bytes().windows(12);
    parts
        .filter(|part| masked.contains(&*String::from_utf8_lossy(part)))
        .count()
}

#[test]
fn a_value_of_several_lines_is_masked_where_its_base64_goes_on_in_the_next() {
    let line = |n: u32| -> String {
        let letter = |at: u32| char::from(33 + ((at * 7 + n * 31) % 90) as u8);
        (0..32).map(letter).collect()
    };
    let value = [line(0), line(1), line(2)].join("\n");
    let encoded = data_encoding::BASE64.encode(format!("xy{value}\n").as_bytes());
    let masked = redact(&[value.as_bytes()], &on_lines(&encoded, 76, "\n"));
    assert_eq!(shown(masked.as_bytes(), &encoded[3..]), 0, "{masked}");
}

#[test]
fn a_short_value_is_masked_wherever_the_line_ends_in_it() {
    let value = "S3cr3t-9x!Kd";
    for ahead in 0..120 {
        let around = format!("{}{value}@host", "u".repeat(ahead));
        for columns in [60, 64, 76] {
            let text = on_lines(
                &data_encoding::BASE64.encode(around.as_bytes()),
                columns,
                "\n",
            );
            let masked = redact(&[value.as_bytes()], &text);
            assert!(masked.contains(MASK), "{ahead} bytes before it: {text}");
        }
    }
}

#[test]
fn lines_that_are_not_as_long_as_those_of_encoders_are_not_joined() {
    let value = b"abcdefghijklmnop";
    assert_eq!(
        redact(&[value], "abcdefgh\nijklmnop\n"),
        "abcdefgh\nijklmnop\n"
    );
    let full = "x".repeat(52) + "abcdefgh";
    let rest = "x".repeat(52);
    assert_eq!(
        redact(&[value], &format!("{full}\nijklmnop.")),
        format!("{rest}***.")
    );
    assert_eq!(
        redact(&[value], &format!("{full}\r\nijklmnop.")),
        format!("{rest}***.")
    );
    for apart in ["\n\n", "\r", "\n ", " \n", "\n\r\n", "=\n"] {
        let text = format!("{full}{apart}ijklmnop.");
        assert_eq!(redact(&[value], &text), text);
    }
}

#[test]
fn what_waits_for_the_next_line_was_a_full_one() {
    let filter = filter(&[b"abcdefghijklmnop"]);
    let mut out = Vec::new();
    let mut stream = Stream::default();
    stream.feed(&filter, b"a word that begins it: abcd\n", &mut out);
    assert_eq!(stream.held(), b"");
    // The line may come in pieces, none of which is long enough.
    let full = "x".repeat(58);
    for piece in [&full[..30], &full[30..], "ab", "\r", "\n", "cdefghij"] {
        stream.feed(&filter, piece.as_bytes(), &mut out);
    }
    assert_eq!(stream.held(), b"ab\r\ncdefghij");
    stream.feed(&filter, b"klmnop\n", &mut out);
    let written = format!("a word that begins it: abcd\n{full}***\n");
    assert_eq!(String::from_utf8_lossy(&out), written);
}

#[test]
fn nothing_is_held_that_cannot_become_a_secret() {
    let filter = filter(&[b"correct horse", b"first\nsecond"]);
    let mut stream = Stream::default();
    let mut out = Vec::new();
    stream.feed(&filter, b"a line\n", &mut out);
    assert_eq!(out, b"a line\n");
    stream.feed(&filter, b"and corre", &mut out);
    assert!(!stream.held().is_empty());
    stream.feed(&filter, b"ctly\n", &mut out);
    assert_eq!(out, b"a line\nand correctly\n");
    assert!(stream.held().is_empty());
    stream.feed(&filter, b"first\n", &mut out);
    assert!(!stream.held().is_empty());
    stream.flush(&filter, &mut out);
    assert_eq!(out, b"a line\nand correctly\nfirst\n");
}

#[test]
fn a_change_of_values_applies_to_what_is_held() {
    let before = filter(&[b"correct horse"]);
    let after = filter(&[b"correct horse", b"correct answer"]);
    let mut stream = Stream::default();
    let mut out = Vec::new();
    stream.feed(&before, b"the correct", &mut out);
    stream.feed(&after, b" answer", &mut out);
    stream.flush(&after, &mut out);
    assert_eq!(out, b"the ***");
}

#[test]
fn an_output_full_of_what_is_nearly_secret_takes_no_long() {
    let filter = filter(&[&[b'a'; 60_000], b"aaaaaaab"]);
    let text = vec![b'a'; 1 << 20];
    let begun = std::time::Instant::now();
    assert_eq!(filter.redact_bytes(&text), MASK.as_bytes());
    assert!(begun.elapsed().as_secs() < 20);
}

#[test]
fn a_filter_is_shared_as_bytes() {
    let made = filter(&[b"correct horse", b"staple battery"]);
    let read = Filter::from_bytes(made.as_bytes()).expect("a filter");
    assert_eq!(read.redact("correct horse!").as_deref(), Some("***!"));
    assert!(filter(&[]).is_empty());
    for end in 0..made.as_bytes().len() {
        // Whatever is missing: an error or a filter, no panic.
        if let Ok(cut) = Filter::from_bytes(&made.as_bytes()[..end]) {
            cut.redact_bytes(b"the correct horse, staple battery");
        }
    }
    let mut other = made.as_bytes().to_vec();
    other[4] += 1;
    assert!(Filter::from_bytes(&other).is_err());
}

/// Values of few different bytes, which overlap with each other and themselves.
fn values() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let byte = prop_oneof![Just(b'a'), Just(b'b'), Just(b'\n'), Just(b' ')];
    let letter = prop_oneof![Just(b'a'), Just(b'b')];
    let value = (letter.clone(), prop::collection::vec(byte, 4..300), letter);
    let value = value.prop_map(|(first, middle, last)| [&[first][..], &middle, &[last]].concat());
    prop::collection::vec(value, 1..4)
}

/// A text with values, halves of them and others.
fn text(values: &[Vec<u8>]) -> impl Strategy<Value = Vec<u8>> + use<> {
    let values = values.to_vec();
    let piece = (
        0..values.len(),
        0..4u8,
        prop::collection::vec(
            prop_oneof![Just(b'a'), Just(b'b'), Just(b'\n'), any::<u8>()],
            0..20,
        ),
    );
    let piece = piece.prop_map(move |(which, kind, other)| {
        let value = &values[which];
        match kind {
            0 => value.clone(),
            1 => value[..value.len() / 2].to_vec(),
            2 => value[value.len() / 2..].to_vec(),
            _ => other,
        }
    });
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn chunks_do_not_matter(
        (values, text) in values().prop_flat_map(|values| { let text = text(&values); (Just(values), text) }),
        cuts in prop::collection::vec(1..300usize, 0..40),
    ) {
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let filter = filter(&values);
        let whole = filter.redact_bytes(&text);
        let mut stream = Stream::default();
        let mut out = Vec::new();
        let (mut rest, mut read) = (text.as_slice(), 0);
        for cut in cuts {
            let (chunk, after) = rest.split_at(cut.min(rest.len()));
            stream.feed(&filter, chunk, &mut out);
            read += chunk.len();
            rest = after;
            prop_assert!(whole.starts_with(&out), "something was written too early");
            prop_assert!(!out.is_empty() || read <= MAX_HELD, "too much is held");
        }
        stream.feed(&filter, rest, &mut out);
        stream.flush(&filter, &mut out);
        prop_assert_eq!(out, whole);
    }

    #[test]
    fn exactly_what_is_a_form_is_masked(
        (values, text) in values().prop_flat_map(|values| { let text = text(&values); (Just(values), text) }),
    ) {
        // Lines of eight bytes or more are forms too; these have neither.
        let values: Vec<Vec<u8>> = values.into_iter().map(|value| {
            let kept = value.iter().copied().filter(|b| *b != b'\n' && *b != b' ');
            kept.chain(*b"ababbb").take(200).collect()
        }).collect();
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let mut masked = vec![false; text.len()];
        for value in &values {
            for at in 0..text.len() {
                if text[at..].starts_with(value) {
                    masked[at..at + value.len()].fill(true);
                }
            }
        }
        let mut expected = Vec::new();
        for (at, byte) in text.iter().enumerate() {
            match masked[at] {
                false => expected.push(*byte),
                true if at > 0 && masked[at - 1] => {}
                true => expected.extend_from_slice(MASK.as_bytes()),
            }
        }
        prop_assert_eq!(filter(&values).redact_bytes(&text), expected);
    }

    #[test]
    fn no_encoding_leaks(
        value in "[a-zA-Z0-9/+&<>'\"\\\\ $%ü-]{12,80}",
        ahead in "[a-z:]{0,5}",
        behind in "[a-z]{0,5}",
    ) {
        let value = value.trim();
        prop_assume!(value.len() >= 6);
        let around = format!("{ahead}{value}{behind}");
        let filter = filter(&[value.as_bytes()]);
        for encoded in [
            around.clone(),
            data_encoding::BASE64.encode(around.as_bytes()),
            data_encoding::BASE64URL.encode(around.as_bytes()),
            data_encoding::HEXLOWER.encode(around.as_bytes()),
            data_encoding::HEXUPPER.encode(around.as_bytes()),
            serde_json::to_string(&around).unwrap_or_default(),
        ] {
            let masked = filter.redact(&encoded);
            prop_assert!(masked.is_some(), "{encoded}");
            // Around base64, up to eleven characters tell of what is around and a part of one of the value.
            let rest = masked.unwrap_or_default().replace(MASK, "");
            prop_assert!(rest.len() <= 28, "{encoded}: {rest}");
        }
    }

    #[test]
    fn no_encoding_on_lines_leaks(
        first in "[!-~]", middle in prop::collection::vec(any::<u8>(), 18..2000), last in "[!-~]",
        ahead in prop::collection::vec(any::<u8>(), 0..120),
        behind in prop::collection::vec(any::<u8>(), 0..120),
        columns in prop_oneof![Just(60usize), Just(64), Just(76)],
        end in prop_oneof![Just("\n"), Just("\r\n")],
        cuts in prop::collection::vec(1..200usize, 0..40),
    ) {
        let value = [first.as_bytes(), &middle, last.as_bytes()].concat();
        let around = [&ahead[..], &value, &behind].concat();
        let filter = filter(&[&value]);
        let sextets = (ahead.len() * 8).div_ceil(6)..(ahead.len() + value.len()) * 8 / 6;
        let digits = ahead.len() * 2..(ahead.len() + value.len()) * 2;
        for (encoded, secret) in [
            (data_encoding::BASE64.encode(&around), sextets.clone()),
            (data_encoding::BASE64URL.encode(&around), sextets),
            (data_encoding::HEXLOWER.encode(&around), digits.clone()),
            (data_encoding::HEXUPPER.encode(&around), digits),
        ] {
            let text = on_lines(&encoded, columns, end);
            let whole = filter.redact_bytes(text.as_bytes());
            prop_assert_eq!(shown(&whole, &encoded[secret]), 0, "{}", String::from_utf8_lossy(&whole));
            let (mut rest, mut out, mut stream) = (text.as_bytes(), Vec::new(), Stream::default());
            for cut in &cuts {
                let (chunk, after) = rest.split_at((*cut).min(rest.len()));
                stream.feed(&filter, chunk, &mut out);
                rest = after;
                prop_assert!(stream.held().len() <= MAX_HELD, "too much is held");
                prop_assert!(whole.starts_with(&out), "something was written too early");
            }
            stream.feed(&filter, rest, &mut out);
            stream.flush(&filter, &mut out);
            prop_assert_eq!(out, whole);
        }
    }

    #[test]
    fn chunks_of_lines_do_not_matter(
        value in "[ab]{6,300}",
        pieces in prop::collection::vec(
            prop_oneof!["[ab]{1,90}", "[ab]{58,62}", "\r?\n", "\r?\n", "[\r\n .]{1,2}"], 0..60),
        parts in prop::collection::vec((0..300usize, 0..200usize, 0..60usize), 0..6),
        cuts in prop::collection::vec(1..100usize, 0..60),
    ) {
        // Parts of the value, long and short ones, at ends and beginnings of lines.
        let mut pieces = pieces;
        for (from, length, at) in parts {
            let from = from.min(value.len());
            let part = &value[from..(from + length).min(value.len())];
            pieces.insert(at.min(pieces.len()), part.to_owned());
        }
        let text = pieces.concat();
        let filter = filter(&[value.as_bytes()]);
        let whole = filter.redact_bytes(text.as_bytes());
        let (mut rest, mut out, mut stream) = (text.as_bytes(), Vec::new(), Stream::default());
        for cut in cuts {
            let (chunk, after) = rest.split_at(cut.min(rest.len()));
            stream.feed(&filter, chunk, &mut out);
            rest = after;
            prop_assert!(stream.held().len() <= MAX_HELD, "too much is held");
            prop_assert!(whole.starts_with(&out), "something was written too early");
        }
        stream.feed(&filter, rest, &mut out);
        stream.flush(&filter, &mut out);
        prop_assert_eq!(out, whole);
    }
}
