"""The names of keys that QEMU 7.2's ``send-key`` takes (QAPI: QKeyCode, qapi/ui.json)."""

from __future__ import annotations

_NAMES = (
    "unmapped shift shift_r alt alt_r ctrl ctrl_r meta_l meta_r menu esc 1 2 3 4 5 6 7 8 9 0 minus "
    "equal backspace tab q w e r t y u i o p bracket_left bracket_right ret a s d f g h j k l "
    "semicolon apostrophe grave_accent backslash z x c v b n m comma dot slash less asterisk spc "
    "caps_lock f1 f2 f3 f4 f5 f6 f7 f8 f9 f10 f11 f12 num_lock scroll_lock print sysrq pause "
    "kp_divide kp_multiply kp_subtract kp_add kp_enter kp_decimal kp_comma kp_equals kp_0 kp_1 kp_2 "
    "kp_3 kp_4 kp_5 kp_6 kp_7 kp_8 kp_9 home pgup pgdn end left up down right insert delete stop "
    "again props undo front copy open paste find cut lf help compose ro hiragana henkan yen muhenkan "
    "katakanahiragana lang1 lang2 power sleep wake audionext audioprev audiostop audioplay audiomute "
    "volumeup volumedown mediaselect mail calculator computer ac_home ac_back ac_forward ac_refresh "
    "ac_bookmarks"
)

KEY_NAMES = frozenset(_NAMES.split())
