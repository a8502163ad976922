//! How random a value is.

/// Words that stand where a secret will.
const PLACEHOLDERS: &[&str] = &[
    "example",
    "changeme",
    "change-me",
    "change_me",
    "placeholder",
    "redacted",
    "dummy",
    "sample",
    "your-",
    "your_",
    "yoursecret",
    "yourpassword",
    "xxxx",
    "****",
    "....",
    "todo",
    "insert",
    "replace",
    "secret_here",
    "localhost",
    "<",
    "${",
    "$(",
    "{{",
    "%(",
    "enc[",
    "vault:",
    "ref:",
    "file:",
    "arn:",
    "0123456789",
    "1234567890",
    "abcdefgh",
    "process.env",
    "os.environ",
    "getenv",
];

/// Whether it is a word that stands for a secret, or where one comes from.
pub(crate) fn is_placeholder(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let first = lower.bytes().next();
    let is_one_letter = lower.bytes().all(|byte| Some(byte) == first);
    is_one_letter || value.starts_with('$') || PLACEHOLDERS.iter().any(|word| lower.contains(word))
}

/// Shannon's entropy, in bits per byte.
pub(crate) fn entropy(value: &str) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in value.bytes() {
        counts[usize::from(byte)] += 1;
    }
    let length = value.len() as f64;
    let seen = counts.into_iter().filter(|&count| count > 0);
    seen.map(|count| f64::from(count) / length)
        .map(|share| -share * share.log2())
        .sum()
}
