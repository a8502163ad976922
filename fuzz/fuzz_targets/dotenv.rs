//! Any text is variables or errors, in both formats.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    havre_fuzz::bounded(|| havre_model::fuzzing::dotenv(text));
});
