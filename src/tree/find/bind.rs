//! What an expression names in the image, looked up there.

use super::accounts::Accounts;
use super::expression::{Comparison, Expression, Owner, Test};
use crate::tree::path::{PathError, Symlinks};
use crate::tree::table::Tree;

/// What an expression names in the image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Paths of files.
    pub paths: Vec<Vec<u8>>,
    /// Whether users or groups are named.
    pub accounts: bool,
}

/// What an expression names is not there.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum BindError {
    #[error("{}: {cause}", String::from_utf8_lossy(path))]
    Path { path: Vec<u8>, cause: PathError },
    #[error("the image's /etc/passwd has no user `{}`", String::from_utf8_lossy(.0))]
    User(Vec<u8>),
    #[error("the image's /etc/group has no group `{}`", String::from_utf8_lossy(.0))]
    Group(Vec<u8>),
}

impl Expression {
    /// What it names in the image.
    pub fn named(&self) -> Named {
        let mut named = Named::default();
        let mut todo = vec![self];
        while let Some(expression) = todo.pop() {
            match expression {
                Expression::And(parts) | Expression::Or(parts) | Expression::List(parts) => {
                    todo.extend(parts);
                }
                Expression::Not(part) => todo.push(part),
                Expression::Test(Test::NewerThan(path) | Test::SameAs(path)) => {
                    named.paths.push(path.clone());
                }
                Expression::Test(Test::Owner(_, name)) => named.accounts |= number(name).is_none(),
                Expression::Test(Test::Nameless(_)) => named.accounts = true,
                _ => {}
            }
        }
        named
    }

    /// The same with what it names looked up.
    ///
    /// # Errors
    /// It is not there.
    pub fn bind(self, tree: &Tree, accounts: &Accounts) -> Result<Expression, BindError> {
        let all = |parts: Vec<Expression>| -> Result<Vec<Expression>, BindError> {
            parts.into_iter().map(|part| part.bind(tree, accounts)).collect()
        };
        Ok(match self {
            Expression::And(parts) => Expression::And(all(parts)?),
            Expression::Or(parts) => Expression::Or(all(parts)?),
            Expression::List(parts) => Expression::List(all(parts)?),
            Expression::Not(part) => Expression::Not(Box::new(part.bind(tree, accounts)?)),
            Expression::Test(test) => Expression::Test(bound(test, tree, accounts)?),
            other => other,
        })
    }
}

fn bound(test: Test, tree: &Tree, accounts: &Accounts) -> Result<Test, BindError> {
    let look_up = |path: Vec<u8>| match tree.resolve(&path, Symlinks::Keep) {
        Ok(ino) => Ok(ino),
        Err(cause) => Err(BindError::Path { path, cause }),
    };
    Ok(match test {
        Test::NewerThan(path) => {
            let a = tree.attributes(look_up(path)?);
            Test::After(a.mtime_seconds, a.mtime_nanoseconds)
        }
        Test::SameAs(path) => Test::Ino(look_up(path)?),
        // A name of digits is a name first.
        Test::Owner(owner, name) => match accounts.id(owner, &name).or_else(|| number(&name)) {
            Some(id) => Test::Id(owner, Comparison::Equal(id.into())),
            None => {
                return Err(match owner {
                    Owner::User => BindError::User(name),
                    Owner::Group => BindError::Group(name),
                });
            }
        },
        Test::Nameless(owner) => Test::IdBut(owner, accounts.ids(owner)),
        other => other,
    })
}

fn number(name: &[u8]) -> Option<u32> {
    std::str::from_utf8(name).ok()?.parse().ok()
}
