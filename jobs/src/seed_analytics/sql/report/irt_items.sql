-- One row an item of a run, the hardest first, those that were left out last.
SELECT item_id, a, b, se_a, se_b, n_responses, p_correct, infit, outfit, status, reason
FROM irt_item_params
WHERE run_id = %(run_id)s
ORDER BY b DESC NULLS LAST, item_id
