"""What `make celery-suite-quick` runs: those of Celery's tests that wait for nothing, of every kind."""

from __future__ import annotations

#: Names of tests by their class (or file).
_NAMES = {
    "test_canvas.py::test_link_error": """
        test_link_error_eager test_link_error test_link_error_callback_error_callback_retries_eager
        test_link_error_callback_retries test_link_error_using_signature_eager test_link_error_using_signature
    """,
    "test_canvas.py::test_chain": """
        test_simple_chain test_single_chain test_chain_of_chain_with_a_single_task test_chain_on_error
        test_eager_chain_inside_task test_second_order_replace test_replace_with_chain_that_contains_a_group
        test_parent_ids test_groupresult_serialization test_chain_of_task_a_group_and_a_chord
        test_chain_of_chords_as_groups_chained_to_a_task_with_two_tasks
        test_chain_with_a_nested_chain_led_by_a_group test_chain_with_a_deserialised_chain_led_by_a_group
        test_chain_of_a_chord_and_a_group_with_two_tasks test_nested_chain_group_lone
        test_nested_chain_group_mid test_replace_chain_with_empty_chain test_task_replaced_with_chain
        test_chain_child_replaced_with_chain_first test_chain_child_replaced_with_chain_last
        test_freezing_chain_sets_id_of_last_task test_group_in_center_of_chain
        test_upgrade_to_chord_inside_chains test_chain_skips_empty_groups_before_chord_body
        test_chain_forwards_args_past_leading_empty_steps
        test_chain_of_two_groups_as_tuple_holds_each_task_once test_chord_with_chain_body_with_task_id
    """,
    "test_canvas.py::test_result_set": """
        test_result_set test_result_set_built_via_add
        test_join_native_timeout_zero_gives_up_on_pending_results
    """,
    "test_canvas.py::test_group": """
        test_ready_with_exception test_empty_group_result test_generator_group_iterated_while_calling_len
        test_nested_group test_group_lone test_nested_group_group test_nested_group_chord_body_chain
        test_group_with_empty_chain_members
    """,
    "test_canvas.py::test_chord": """
        test_simple_chord_with_a_delay_in_group_save test_chord_order test_replaced_nested_chord
        test_add_to_chord test_add_chord_to_chord test_eager_chord_inside_task test_group_chain
        test_group_args_and_kwargs test_single_task_header test_empty_header_chord test_nested_chord
        test_parent_ids test_parent_ids__plain_task_body test_parent_ids__OR test_chord_on_error
        test_chord_in_chords_with_chains test_chain_chord_chain_chord test_chord_in_chain_with_args
        test_chain_in_chain_with_args test_priority test_priority_chain test_nested_chord_group
        test_error_propagates_to_chord_from_simple test_error_propagates_to_chord_from_chain
        test_error_propagates_to_chord_from_chain_tail test_chord_header_task_replaced_with_chain
        test_chord_header_child_replaced_with_chain_first test_chord_header_child_replaced_with_chain_middle
        test_chord_header_child_replaced_with_chain_last test_chord_body_task_replaced_with_chain
        test_chord_body_chain_child_replaced_with_chain_first
        test_chord_body_chain_child_replaced_with_chain_middle
        test_chord_body_chain_child_replaced_with_chain_last
        test_upgraded_chord_link_error_with_header_errback_enabled
        test_chord_unlock_with_failed_task_in_nested_chain_member test_chord_header_with_empty_chains
    """,
    "test_canvas.py::test_signature_serialization": """
        test_rebuild_nested_chain_chain test_rebuild_nested_chain_group test_rebuild_nested_chain_chord
        test_rebuild_nested_group_chain test_rebuild_nested_group_group test_rebuild_nested_group_chord
        test_rebuild_nested_chord_chain test_rebuild_nested_chord_group test_rebuild_nested_chord_chord
    """,
    "test_group_chains.py::test_group_chains": """
        test_pending_chord_keeps_header_errback
    """,
    "test_inspect.py::test_Inspect": """
        test_ping test_clock test_registered test_active_queues test_report test_conf
    """,
    "test_redis_backend.py": """
        test_chord_expires test_chord_part_return_records_each_header_task_once
    """,
    "test_tasks.py::test_class_based_tasks": """
        test_class_based_task_retried
    """,
    "test_tasks.py::test_tasks": """
        test_simple_call test_send_task_without_ignore_result_uses_task_ignore_result
        test_send_task_without_ignore_result_stores_result test_reject_without_requeue_stores_failure
        test_reject_with_requeue_redelivers_and_succeeds test_pydantic_annotations
        test_pydantic_string_annotations test_fail test_wrong_arguments
        test_retry_switches_from_kwargs_to_args test_retry_switches_from_args_to_kwargs
        test_retry_with_unpickleable_exception test_fail_with_unpickleable_exception test_task_retried_once
        test_task_retried_priority test_task_retried_headers test_unicode_task test_properties
        test_soft_time_limit_exceeding_time_limit test_request_time_limits_set_via_apply_async
        test_request_time_limits_none_when_not_configured test_request_time_limits_from_task_declaration
        test_apply_async_time_limits_override_task_declaration
    """,
    "test_tasks.py::test_apply_tasks": """
        test_apply_single_task_ids test_apply_nested_parent_child_relationship
    """,
    "test_tasks.py::test_task_redis_result_backend": """
        test_ignoring_result_no_subscriptions test_retry_preserves_ignore_result_false
        test_retry_preserves_ignore_result_true test_asyncresult_forget_cancels_subscription
        test_asyncresult_get_cancels_subscription
    """,
    "test_tasks.py::test_pool_acquire_timeout": """
        test_task_succeeds_with_pool_timeout_configured test_pool_timeout_none_blocks_successfully
    """,
}

QUICK = [f"{place}::{name}" for place, names in _NAMES.items() for name in names.split()]
