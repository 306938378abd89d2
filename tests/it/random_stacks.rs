//! Random stacks of layers: the tree must be what the reference model says, to the last attribute.
//!
//! A failure prints the shrunk stack as code; it is then kept below as a regression under a name.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::layers::real;
use crate::model::{generators, reference};

#[test]
fn trees_equal_the_reference_model() {
    let cases =
        std::env::var("OCIFS_MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(4000);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&generators::stacks(), |stack| {
        let (expected, got) = (reference::apply(&stack), real(&stack));
        match (&expected, &got) {
            (Ok(expected), Ok(got)) => prop_assert_eq!(expected, got),
            (Err(_), Err(_)) => {}
            _ => prop_assert!(false, "model: {:?}\nocifs: {:?}", expected, got),
        }
        Ok(())
    });
    if let Err(proptest::test_runner::TestError::Fail(reason, stack)) = &result {
        panic!("{reason}\n{}", generators::render(stack));
    }
    result.expect("the generator works");
}
