//! Any text is a tree or an error with a place.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    havre_fuzz::bounded(|| havre_model::fuzzing::yaml(text));
});
