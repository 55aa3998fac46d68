//! The packet parser: from the bytes of a frame to the key of its flow.
