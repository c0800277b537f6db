//! Statements, each with the plan that it keeps.

/// The statements of a file, `NAME = "-- name\nSELECT …" => "its plan";`: constants, which `tests/plans.rs` lists. The plan
/// is left out where no table is read that grows with the tasks.
macro_rules! statements {
    ($($(#[$doc:meta])* $vis:vis $name:ident = $text:expr $(=> $plan:literal)?;)+) => {
        $($(#[$doc])* $vis const $name: &str = $text;)+

        #[cfg(test)]
        pub(crate) const PLANS: &[(&str, &str)] = &[$(($name, concat!($($plan)?))),+];
    };
}
pub(crate) use statements;
