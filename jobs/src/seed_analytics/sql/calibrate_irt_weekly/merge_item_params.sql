INSERT INTO irt_item_params
    (run_id, item_id, a, b, se_a, se_b, n_responses, p_correct, infit, outfit, status, reason)
SELECT run_id, item_id, a, b, se_a, se_b, n_responses, p_correct, infit, outfit, status, reason
FROM incoming
