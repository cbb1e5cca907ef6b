//! How good a password is: length and variety, and not what everybody takes.

/// Why a password is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Weakness {
    #[error("It has fewer than 10 characters. Take three or four words.")]
    Short,
    #[error("It has more than 200 characters.")]
    Long,
    #[error("It repeats few characters. Take three or four words.")]
    Plain,
    #[error("It is among those that are tried first. Take three or four words.")]
    Common,
    #[error("It contains your handle or email. Take something that nobody connects with you.")]
    Own,
}

/// Beginnings and ends that guesses start with.
const COMMON: [&str; 16] = [
    "password", "passwort", "123456", "qwerty", "qwertz", "letmein", "welcome", "iloveyou",
    "admin", "abc123", "111111", "runrig", "monkey", "dragon", "football", "azerty",
];

/// 1 (weak) to 4 (strong), or why it is refused. The page's meter counts the same way.
pub fn strength(password: &str, own: &[&str]) -> Result<u8, Weakness> {
    let length = password.chars().count();
    if length < 10 {
        return Err(Weakness::Short);
    }
    if length > 200 {
        return Err(Weakness::Long);
    }
    let lower = password.to_lowercase();
    let unique: std::collections::BTreeSet<char> = password.chars().collect();
    if unique.len() < 5 {
        return Err(Weakness::Plain);
    }
    if COMMON
        .iter()
        .any(|c| lower.contains(c) && length < c.len() + 6)
    {
        return Err(Weakness::Common);
    }
    if own
        .iter()
        .any(|o| o.len() >= 4 && lower.contains(&o.to_lowercase()))
    {
        return Err(Weakness::Own);
    }
    let classes = [
        password.chars().any(|c| c.is_ascii_lowercase()),
        password.chars().any(|c| c.is_ascii_uppercase()),
        password.chars().any(|c| c.is_ascii_digit()),
        password.chars().any(|c| !c.is_ascii_alphanumeric()),
    ];
    let classes = classes.iter().filter(|c| **c).count();
    let score = 1
        + u8::from(length >= 12)
        + u8::from(length >= 16 || classes >= 3)
        + u8::from(unique.len() >= 12);
    Ok(score.min(4))
}
