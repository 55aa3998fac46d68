//! The lab: a simulated EKS node in network namespaces.
