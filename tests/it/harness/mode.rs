//! Which deployment mode the tests run against: `TSP_TEST_SHAPE` is `embedded` (the default) or `cluster`.

/// A way of putting the product together. What callers see of it is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeploymentMode {
    /// One process on a file.
    Embedded,
    /// A process for each role, on `MariaDB` and nsqd.
    Cluster,
}

pub(crate) fn mode() -> DeploymentMode {
    #[expect(clippy::disallowed_methods, reason = "the shape of a run is chosen where it is started")]
    let text = std::env::var("TSP_TEST_SHAPE");
    match text.as_deref() {
        Err(_) | Ok("" | "embedded") => DeploymentMode::Embedded,
        Ok("cluster") => DeploymentMode::Cluster,
        Ok(other) => panic!("`TSP_TEST_SHAPE` is `embedded` or `cluster`, not `{other}`"),
    }
}

/// Leaves a test out of the runs of other modes, and says why.
macro_rules! only_on {
    ($mode:ident, $why:literal) => {
        if $crate::harness::mode::mode() != $crate::harness::mode::DeploymentMode::$mode {
            println!("left out of this run: {}", $why);
            return;
        }
    };
}

pub(crate) use only_on;
