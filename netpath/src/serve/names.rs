//! What a node is called where its windows go.

/// Names that the user gives.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// The cluster; empty if it has no name.
    pub cluster: String,
    /// The node in the cluster.
    pub node: String,
}
