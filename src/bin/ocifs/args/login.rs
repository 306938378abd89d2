//! A user name and a password, which nothing prints.

use std::ffi::OsStr;
use std::fmt;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;

/// `USER:PASSWORD`. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(hidden)")
    }
}

impl Login {
    /// Whether none is meant.
    pub(crate) fn is_empty(&self) -> bool {
        self.user.is_empty()
    }

    /// Reads what [`Login::to_text`] makes of a login that is not empty.
    pub(crate) fn parse(text: &str) -> Option<Login> {
        let (user, password) = text.split_once(':').filter(|(user, _)| !user.is_empty())?;
        Some(Login { user: user.to_owned(), password: password.to_owned() })
    }

    /// As it is given on the command line.
    pub(crate) fn to_text(&self) -> String {
        if self.is_empty() { String::new() } else { format!("{}:{}", self.user, self.password) }
    }
}

/// Reads a [`Login`]. (clap's own errors quote the value, and this one is a secret.)
#[derive(Clone, Copy, Debug)]
pub(super) struct LoginParser;

impl TypedValueParser for LoginParser {
    type Value = Login;

    fn parse_ref(
        &self,
        command: &clap::Command,
        _: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Login, clap::Error> {
        match value.to_str().and_then(Login::parse) {
            Some(login) => Ok(login),
            // A variable that is set to nothing.
            _ if value.is_empty() => Ok(Login { user: String::new(), password: String::new() }),
            _ => Err(clap::Error::raw(
                ErrorKind::ValueValidation,
                "--creds and the variable OCIFS_CREDS take USER:PASSWORD; what was given is not that\n",
            )
            .with_cmd(command)),
        }
    }
}
