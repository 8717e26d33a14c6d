-- The ids of the interrupts that a run answers, where the thread must wait for them at its admission.
ALTER TABLE greenroom.runs ADD COLUMN answers text[];
