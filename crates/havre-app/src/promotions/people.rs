//! Who a person is, by whatever name they come: as a user of the machine, by a token, by a login.

use havre_access::Register;

/// Tokens are told apart from users by it.
const TOKEN: &str = "token ";

/// The person behind a name that history shows: a token `anna` is of whom the machine knows as `anna`, and so is a login
/// of its user `anna`. `None`: the name is the person.
pub(super) fn person(register: &Register, name: &str) -> Option<String> {
    if let Some(token) = name.strip_prefix(TOKEN) {
        return Some(token.to_owned());
    }
    let (issuer, subject) = name.split_once(':')?;
    register.user_of(issuer, subject).map(|user| user.name)
}
