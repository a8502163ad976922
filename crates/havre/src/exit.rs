//! The table of exit codes: the only place that knows them.

use havre_api::{ClientError, ErrorCode};

macro_rules! exits {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $meaning:literal;)*) => {
        /// How the program ends.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Exit {
            $($(#[$doc])* $name = $code,)*
        }

        impl Exit {
            /// Code and meaning of each, for help and manual.
            pub const TABLE: &[(u8, &str)] = &[$(($code, $meaning),)*];
        }
    };
}

exits! {
    /// All went well.
    Ok = 0, "all went well";
    /// The operation failed.
    Failed = 1, "the operation failed";
    /// The command line is wrong.
    Usage = 2, "the command line is wrong";
    /// The project's files are wrong.
    Project = 3, "the project's files are wrong; nothing was changed";
    /// No daemon answers.
    Unreachable = 4, "no daemon answers, or it went away";
    /// The old release serves on.
    RolledBack = 5, "the rollout failed; the previous release still serves";
    /// What was named does not exist.
    NotFound = 6, "what was named does not exist";
    /// Something else holds it.
    Busy = 7, "something else holds it: another operation, or it is in use";
    /// The user may not do that.
    NotRoot = 8, "needs root";
    /// The daemon does not know the user, or does not let them.
    Denied = 9, "not allowed: no token, a wrong one, or a role that does not do";
    /// `exec` could not run the command; other codes are the command's own.
    Exec = 125, "exec: the command could not be run (other codes are the command's own)";
    /// A user stopped it.
    Interrupted = 130, "stopped by the user";
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The exit for a failure that the daemon reported.
    pub fn of(code: ErrorCode) -> Self {
        match code {
            ErrorCode::Invalid | ErrorCode::Failed | ErrorCode::Internal => Self::Failed,
            ErrorCode::NotFound => Self::NotFound,
            ErrorCode::Conflict => Self::Busy,
            ErrorCode::RolledBack => Self::RolledBack,
            ErrorCode::Cancelled => Self::Interrupted,
            ErrorCode::Unauthenticated | ErrorCode::Forbidden => Self::Denied,
            ErrorCode::TooMany | ErrorCode::Unavailable => Self::Unreachable,
        }
    }

    /// The exit where `exec` came to no command's own code: one who is not allowed to run it is told the same as of
    /// any other command.
    pub fn of_exec(self) -> Self {
        match self {
            Self::Denied => Self::Denied,
            _ => Self::Exec,
        }
    }

    /// The exit for a call that came to nothing.
    pub fn of_client(error: &ClientError) -> Self {
        match error {
            ClientError::Unreachable { .. }
            | ClientError::TimedOut { .. }
            | ClientError::Lost { .. }
            | ClientError::CutShort => Self::Unreachable,
            ClientError::Garbled { .. } => Self::Failed,
            ClientError::Refused(error) => Self::of(error.code),
        }
    }

    /// The table as text for help and manual.
    pub fn help() -> String {
        let mut text = String::from("Exit codes:\n");
        for (code, meaning) in Self::TABLE {
            text.push_str(&format!("  {code:>3}  {meaning}\n"));
        }
        text
    }
}
