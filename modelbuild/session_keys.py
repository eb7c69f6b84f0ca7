"""Session config keys that ONNX Runtime has, and names that are taken for such keys but are none.

ONNX Runtime accepts any key without a word, so an allow-list is the only check there can be. Source: ONNX Runtime's
`onnxruntime_session_options_config_keys.h`, those keys whose string is in the library of release 1.31.1.
"""

from __future__ import annotations

SESSION_CONFIG_KEYS: frozenset[str] = frozenset(
    {
        "mlas.disable_kleidiai",
        "optimization.disable_specified_optimizers",
        "optimization.enable_cast_chain_elimination",
        "optimization.enable_gelu_approximation",
        "session.disable_cpu_ep_fallback",
        "session.disable_prepacking",
        "session.disable_quant_qdq",
        "session.dynamic_block_base",
        "session.enable_quant_qdq_cleanup",
        "session.force_spinning_stop",
        "session.graph_optimizations_loop_level",
        "session.inter_op.allow_spinning",
        "session.inter_op.spin_backoff_max",
        "session.inter_op.spin_duration_us",
        "session.intra_op.allow_spinning",
        "session.intra_op.spin_backoff_max",
        "session.intra_op.spin_duration_us",
        "session.intra_op_thread_affinities",
        "session.qdqisint8allowed",
        "session.record_ep_graph_assignment_info",
        "session.set_denormal_as_zero",
        "session.strict_shape_type_inference",
        "session.use_device_allocator_for_initializers",
        "session.use_env_allocators",
        "session.x64quantprecision",
    }
)

NOT_SESSION_CONFIG_KEYS: dict[str, str] = {
    "memory.pattern_optimization.enabled": "articles name it, but it never existed; use session.enable_mem_pattern",
    "memory.enable_memory_arena_shrinkage": "it belongs to the options of one run, not of a session",
    "gpu_graph_id": "it belongs to the options of one run, not of a session",
    "session.enable_mem_pattern": "use the key session.enable_mem_pattern of modelbuild, not a config entry",
    "session.intra_op_num_threads": "use the key session.intra_op_num_threads of modelbuild, not a config entry",
    "session.inter_op_num_threads": "use the key session.inter_op_num_threads of modelbuild, not a config entry",
}
