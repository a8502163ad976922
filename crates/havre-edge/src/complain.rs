//! The edge's own log: its standard error.

/// Writes a line to it. Unlike with `eprintln!`, a full disk does not end the edge.
macro_rules! complain {
    ($($text:tt)*) => {
        $crate::complain::line(format_args!($($text)*))
    };
}

pub(crate) use complain;

/// See [`complain!`].
pub fn line(text: std::fmt::Arguments<'_>) {
    let written = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{text}\n"));
    // There is nobody else to tell.
    drop(written);
}
