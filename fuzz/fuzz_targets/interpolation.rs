//! Any text is expanded or refused, and what is escaped comes out as it was.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    havre_fuzz::bounded(|| havre_model::fuzzing::interpolation(text));
});
